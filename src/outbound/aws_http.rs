//! The AWS SDK's HTTP client: reqwest, as for the upstream, so that one TLS and one HTTP library are linked.

use crate::ports::Clock;
use aws_smithy_runtime_api::client::{
    http::{
        HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
        SharedHttpConnector,
    },
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
    runtime_components::RuntimeComponents,
};
use contract::rfc3339;
use protocol::Moment;
use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue};
use rustls::ClientConfig;
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// How long connecting may take, for all addresses of the name together.
const CONNECT: Duration = Duration::from_millis(1000);

/// An HTTP client for the AWS SDK. It follows the environment's proxy, as every AWS SDK does. The SDK limits the time
/// of each attempt.
///
/// # Errors
/// The HTTP library cannot be set up.
pub fn http_client(tls: ClientConfig) -> Result<SharedHttpClient, reqwest::Error> {
    let pool = Mutex::new(Pool { number: 0, client: pool(tls.clone()).build()? });
    let connector = Connector(Arc::new(Connections { tls, pool }));
    Ok(SharedHttpClient::new(Client(SharedHttpConnector::new(connector))))
}

pub(super) fn pool(tls: ClientConfig) -> reqwest::ClientBuilder {
    // A checksum covers the bytes as sent.
    let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("identity"))]);
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .default_headers(headers)
        .connect_timeout(CONNECT)
        .redirect(reqwest::redirect::Policy::none())
        // The SDK retries.
        .retry(reqwest::retry::never())
}

#[derive(Debug)]
struct Client(SharedHttpConnector);

impl HttpClient for Client {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        self.0.clone()
    }
}

#[derive(Debug)]
struct Connector(Arc<Connections>);

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let connections = Arc::clone(&self.0);
        HttpConnectorFuture::new(async move {
            let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
            // No request of the broker streams.
            let request = request.map(|body| body.bytes().unwrap_or_default().to_vec());
            let request = reqwest::Request::try_from(request).map_err(failed)?;
            let attempt = Attempt::begin(&connections);
            let mut response = attempt.pool.client.execute(request).await.map_err(failed)?;
            let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
            let body = response.bytes().await.map_err(failed)?;
            attempt.answered();
            let mut answer = HttpResponse::new(status.into(), body.into());
            for (name, value) in &headers {
                answer.headers_mut().append(name.as_str().to_owned(), value.clone());
            }
            Ok(answer)
        })
    }
}

/// The SDK tries again after each of these.
fn failed(error: reqwest::Error) -> ConnectorError {
    if error.is_timeout() { ConnectorError::timeout(error.into()) } else { ConnectorError::io(error.into()) }
}

/// The open connections. All idle ones may have died while the process was frozen, and there may be more of them than
/// the SDK has attempts. So one attempt without a response replaces the pool.
#[derive(Debug)]
struct Connections {
    tls: ClientConfig,
    pool: Mutex<Pool>,
}

#[derive(Clone, Debug)]
struct Pool {
    number: u64,
    client: reqwest::Client,
}

/// One attempt of the SDK, which drops it when its time is up.
struct Attempt<'a> {
    connections: &'a Connections,
    pool: Pool,
    answered: bool,
}

impl<'a> Attempt<'a> {
    fn begin(connections: &'a Connections) -> Self {
        let pool = connections.pool.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Self { connections, pool, answered: false }
    }

    fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        let mut current = self.connections.pool.lock().unwrap_or_else(PoisonError::into_inner);
        // If attempts fail together, the first one replaces the pool.
        if current.number == self.pool.number
            && let Ok(client) = pool(self.connections.tls.clone()).build()
        {
            *current = Pool { number: current.number + 1, client };
        }
    }
}

/// Whether a response proves that the service itself wrote it.
pub(super) type Proof = fn(&HttpResponse) -> bool;

/// Wraps a service's client. A response without `proof` counts as lost, and the SDK retries. The date of a proven
/// response corrects the clock, if one is given.
pub(super) fn proven(
    client: SharedHttpClient,
    proof: Proof,
    clock: Option<Arc<dyn Clock>>,
) -> SharedHttpClient {
    SharedHttpClient::new(ProvenClient { client, proof, clock: SetBy(clock) })
}

/// A clock that the service's responses correct.
#[derive(Clone)]
struct SetBy(Option<Arc<dyn Clock>>);

impl fmt::Debug for SetBy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SetBy")
    }
}

impl SetBy {
    fn reading(&self) -> Option<Moment> {
        self.0.as_ref().map(|clock| clock.reading())
    }

    fn responded(&self, sent: Option<Moment>, response: &HttpResponse) {
        let date = response.headers().get("date").and_then(rfc3339::parse_http_date);
        if let (Some(clock), Some(sent), Some(date)) = (&self.0, sent, date) {
            clock.store_replied(sent, clock.reading(), date);
        }
    }
}

/// The response of another server, such as a proxy.
#[derive(Debug, thiserror::Error)]
#[error("the response does not prove that the service wrote it")]
pub(super) struct Unproven;

#[derive(Debug)]
struct ProvenClient {
    client: SharedHttpClient,
    proof: Proof,
    clock: SetBy,
}

#[derive(Debug)]
struct ProvenConnector {
    connector: SharedHttpConnector,
    proof: Proof,
    clock: SetBy,
}

impl HttpClient for ProvenClient {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let connector = self.client.http_connector(settings, components);
        SharedHttpConnector::new(ProvenConnector { connector, proof: self.proof, clock: self.clock.clone() })
    }
}

impl HttpConnector for ProvenConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (proof, clock) = (self.proof, self.clock.clone());
        let (sent, response) = (clock.reading(), self.connector.call(request));
        HttpConnectorFuture::new(async move {
            let response = response.await?;
            if !proof(&response) {
                return Err(ConnectorError::io(Unproven.into()));
            }
            clock.responded(sent, &response);
            Ok(response)
        })
    }
}
