//! The AWS SDK's HTTP client: reqwest, as for the upstream, so that one TLS and one HTTP library are linked.

use aws_smithy_runtime_api::client::{
    http::{
        HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
        SharedHttpConnector,
    },
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
    runtime_components::RuntimeComponents,
};
use std::time::Duration;

/// How long a connect may take.
const CONNECT: Duration = Duration::from_millis(1000);

/// An HTTP client for the AWS SDK. It follows the environment's proxy, as every AWS SDK does. The SDK limits the time
/// of each attempt.
///
/// # Errors
/// The HTTP library cannot be set up.
pub fn http_client(tls: rustls::ClientConfig) -> Result<SharedHttpClient, reqwest::Error> {
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .connect_timeout(CONNECT)
        .redirect(reqwest::redirect::Policy::none())
        // The SDK retries.
        .retry(reqwest::retry::never())
        .build()?;
    Ok(SharedHttpClient::new(Client(SharedHttpConnector::new(Connector(client)))))
}

#[derive(Debug)]
struct Client(SharedHttpConnector);

impl HttpClient for Client {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        self.0.clone()
    }
}

#[derive(Debug)]
struct Connector(reqwest::Client);

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = self.0.clone();
        HttpConnectorFuture::new(async move {
            let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
            // No request of the broker streams.
            let request = request.map(|body| body.bytes().unwrap_or_default().to_vec());
            let request = reqwest::Request::try_from(request).map_err(failed)?;
            let mut response = client.execute(request).await.map_err(failed)?;
            let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
            let body = response.bytes().await.map_err(failed)?;
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
