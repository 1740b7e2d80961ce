//! The AWS SDK's HTTP client: the one of this crate, so that one HTTP and one TLS library are linked.

use crate::http::{BaseUrl, HttpClient, SendError, collect, full};
use aws_smithy_runtime_api::client::{
    http::{
        HttpClient as SdkHttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings,
        SharedHttpClient, SharedHttpConnector,
    },
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
    runtime_components::RuntimeComponents,
};
use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// The longest answer that is read: `status` of a thousand accounts.
const LONGEST_ANSWER: usize = 1024 * 1024;
/// A longer refusal does not come from a credentials service.
const LONGEST_REFUSAL: usize = 1024;

/// The text of a credentials service's last refusal. The SDK keeps only its status.
#[derive(Clone, Debug, Default)]
pub(super) struct LastRefusal(Arc<Mutex<Option<String>>>);

impl LastRefusal {
    pub(super) fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, body: &[u8]) {
        let text = String::from_utf8_lossy(body).trim().to_owned();
        let text = Some(text).filter(|text| !text.is_empty() && text.len() <= LONGEST_REFUSAL);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }
}

pub(super) fn sdk_client(http: HttpClient) -> SharedHttpClient {
    SharedHttpClient::new(Client { http, refusal: None })
}

/// A client for the SDK that keeps the text of refusals.
pub(super) fn noting_client(http: HttpClient, refusal: LastRefusal) -> SharedHttpClient {
    SharedHttpClient::new(Client { http, refusal: Some(refusal) })
}

#[derive(Clone, Debug)]
struct Client {
    http: HttpClient,
    refusal: Option<LastRefusal>,
}

impl SdkHttpClient for Client {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        let limit = settings.read_timeout().map(|read| read + settings.connect_timeout().unwrap_or_default());
        SharedHttpConnector::new(Connector { client: self.clone(), limit })
    }
}

#[derive(Debug)]
struct Connector {
    client: Client,
    /// For connection and answer together.
    limit: Option<Duration>,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (client, limit) = (self.client.clone(), self.limit);
        HttpConnectorFuture::new(async move {
            let Some(limit) = limit else { return client.send(request).await };
            let sent = tokio::time::timeout(limit, client.send(request)).await;
            sent.unwrap_or_else(|_| Err(ConnectorError::timeout("no answer in time".into())))
        })
    }
}

impl Client {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
        let (mut head, body) = request.into_parts();
        let origin = match (head.uri.scheme(), head.uri.authority()) {
            (Some(scheme), Some(authority)) => format!("{scheme}://{authority}"),
            _ => return Err(ConnectorError::user("the URL names no host".into())),
        };
        let server = BaseUrl::parse_any(&origin).map_err(|error| ConnectorError::user(error.into()))?.target;
        if !server.is_tls() && !server.is_loopback() && !is_metadata_address(server.host()) {
            return Err(ConnectorError::user(format!("{server} is neither https nor local").into()));
        }
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str()).parse();
        head.uri = path.map_err(|error: http::uri::InvalidUri| ConnectorError::user(error.into()))?;
        // No request of the client streams.
        let body = full(body.bytes().unwrap_or_default().to_vec());
        let sent = self.http.send(&server, http::Request::from_parts(head, body)).await;
        let response = sent.map_err(|error: SendError| ConnectorError::io(error.into()))?;
        let (head, body) = response.into_parts();
        let body = collect(body, LONGEST_ANSWER).await.map_err(ConnectorError::io)?;
        if let Some(refusal) = self.refusal.as_ref().filter(|_| !head.status.is_success()) {
            refusal.put(&body);
        }
        let mut answer = HttpResponse::new(head.status.into(), body.into());
        for (name, value) in &head.headers {
            answer.headers_mut().append(name.as_str().to_owned(), value.clone());
        }
        Ok(answer)
    }
}

/// Whether AWS serves credentials at this address without encryption, to this machine only.
fn is_metadata_address(host: &str) -> bool {
    match host.parse() {
        Ok(IpAddr::V4(address)) => address.is_link_local(),
        Ok(IpAddr::V6(address)) => address.segments().starts_with(&[0xfd00, 0x0ec2]),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SystemClock, http::Roots};

    #[test]
    fn plain_http_goes_to_metadata_addresses() {
        for (host, expected) in [
            ("169.254.170.2", true),
            ("169.254.170.23", true),
            ("169.254.169.254", true),
            ("fd00:ec2::23", true),
            ("fd00:ec2::254", true),
            ("169.255.170.2", false),
            ("fd00:ec3::23", false),
            ("169.254.170.2.example.com", false),
            ("example.com", false),
        ] {
            assert_eq!(is_metadata_address(host), expected, "{host}");
        }
    }

    #[tokio::test]
    async fn plain_http_leaves_the_machine_for_no_other_address() {
        let http = HttpClient::new(SystemClock, Roots::from_environment(|_| None), Duration::from_secs(5));
        let client = Client { http, refusal: None };
        for (url, is_refused) in [
            ("http://192.0.2.1/", true),
            ("http://lambda.example.com/", true),
            // These fail for another reason.
            ("http://127.0.0.1:1/", false),
            ("https://no-such-host.invalid/", false),
        ] {
            let error = client.send(HttpRequest::get(url).unwrap()).await.unwrap_err();
            assert_eq!(error.is_user(), is_refused, "{url}");
        }
    }

    #[test]
    fn a_refusal_is_told_once_unless_it_is_empty_or_long() {
        let (refusal, kibibyte) = (LastRefusal::default(), "x".repeat(1024));
        for (body, told) in [
            (" no role\n".to_owned(), Some("no role")),
            (" \n".to_owned(), None),
            (kibibyte.clone(), Some(kibibyte.as_str())),
            (format!("{kibibyte}x"), None),
        ] {
            refusal.put(body.as_bytes());
            assert_eq!(refusal.take().as_deref(), told);
            assert_eq!(refusal.take(), None);
        }
    }
}
