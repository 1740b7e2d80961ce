//! Passes requests on to the API, with the account's token.

mod body;
pub mod headers;
mod location;
mod path;
mod retry;
mod urls;

use self::{body::Kept, urls::Urls};
use crate::{connections::Connection, reply};
use contract::{AccountName, CallError, ErrorCode};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::{collections::HashMap, future::Future, sync::Arc, time::Duration};
use token_broker_client::{
    Token, TokenSource,
    http::{BaseUrl, Body, BoxError, HttpClient, SendError, Sent, collect},
};
use tower_http::timeout::TimeoutBody;

/// How much of a refusal's body is read, so that its connection can be reused.
const MOST_DRAINED: usize = 16 * 1024;
const DRAIN_TIME: Duration = Duration::from_millis(100);
/// How long the API may take to begin its response, and to go on with it.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);

/// The proxy. For each account, it talks to only one server.
pub(crate) struct Proxy {
    api: BaseUrl,
    apis: HashMap<AccountName, BaseUrl>,
    http: HttpClient,
}

/// A request on its way to the API, without token and body.
struct Outgoing<'a> {
    api: &'a BaseUrl,
    method: Method,
    target: Uri,
    headers: HeaderMap,
}

impl Outgoing<'_> {
    fn request(&self, token: &Token, body: Body) -> Option<Request<Body>> {
        let is_chunked = body.size_hint().exact().is_none();
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.target.clone();
        request.headers_mut().clone_from(&self.headers);
        request.headers_mut().insert(header::AUTHORIZATION, token.authorization()?);
        if is_chunked {
            // Without this header, hyper drops the body of a GET or HEAD.
            request.headers_mut().insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        Some(request)
    }
}

impl Proxy {
    pub(crate) fn new(api: BaseUrl, apis: HashMap<AccountName, BaseUrl>, http: HttpClient) -> Self {
        Self { api, apis, http }
    }

    /// Forwards a request, and returns the API's response. `rest` is the path after the account.
    pub(crate) async fn pass(
        &self,
        source: &TokenSource,
        account: &AccountName,
        rest: &str,
        request: Request<Incoming>,
        connection: &Arc<Connection>,
    ) -> Response<Body> {
        let (head, body) = request.into_parts();
        let api = self.apis.get(account).unwrap_or(&self.api);
        let target = match target(&api.path, rest, &head.method, &head.uri) {
            Ok(target) => target,
            Err(error) => return reply::malformed(&error),
        };
        let host = head.headers.get(header::HOST).cloned();
        let outgoing = Outgoing { api, method: head.method, target, headers: headers::for_api(head.headers) };
        let token = match source.get(account).await {
            Ok(token) => token,
            Err(error) => return reply::no_proxied_token(&error, account),
        };
        let Ok((body, kept)) = body::take(body, connection).await else {
            return reply::malformed(&CallError::Invalid("the request's body ended early".to_owned()));
        };
        let busy = connection.busy();
        let sent = self.send(&outgoing, &token, body, &kept).await;
        let (token, sent) = match sent {
            Ok(response) if retry::is_refused(response.status()) => {
                Box::pin(self.refused(source, &outgoing, token, &kept, response)).await
            }
            sent => (token, sent),
        };
        match sent {
            Ok(response) => {
                let (mut head, body) = response.into_parts();
                // A response as HTTP/1.0 would end with the connection, also if it breaks off.
                head.version = Version::HTTP_11;
                headers::for_caller(&mut head.headers, token.generation);
                let urls = Urls { api, account, current: outgoing.target.path(), host: host.as_ref() };
                if let Err(elsewhere) = urls.keep_on_agent(head.status, &mut head.headers) {
                    return failed(&Failed::Redirect(elsewhere));
                }
                connection.proxies();
                // The connection is busy until the body has been sent, or dropped.
                let body = without_silence(body).map_frame(move |frame| {
                    std::convert::identity(&busy);
                    frame
                });
                Response::from_parts(head, body.boxed_unsync())
            }
            Err(error) => failed(&error),
        }
    }

    /// Reports the refused token. If there is a newer one and the body was kept, repeats the request once.
    async fn refused(
        &self,
        source: &TokenSource,
        outgoing: &Outgoing<'_>,
        token: Token,
        kept: &Kept,
        refusal: Sent,
    ) -> (Token, Result<Sent, Failed>) {
        let renewed = source.report(&token.account, token.generation).await;
        match (renewed, kept.again()) {
            (Ok(renewed), Some(body)) if retry::is_better(renewed.generation, token.generation) => {
                let drained = collect(refusal.into_body(), MOST_DRAINED);
                // If it is long or slow, its connection is closed.
                let _ = tokio::time::timeout(DRAIN_TIME, drained).await;
                let sent = self.send(outgoing, &renewed, body, kept).await;
                (renewed, sent)
            }
            _ => (token, Ok(refusal)),
        }
    }

    async fn send(
        &self,
        outgoing: &Outgoing<'_>,
        token: &Token,
        body: Body,
        kept: &Kept,
    ) -> Result<Sent, Failed> {
        let request = outgoing.request(token, body).ok_or(Failed::Token)?;
        let server = &outgoing.api.target;
        match in_time(self.http.send(server, request)).await {
            Err(Failed::Send(SendError::Broken { reused, .. }))
                if retry::may_resend(&outgoing.method, kept.is_empty(), reused) =>
            {
                let body = kept.again().ok_or(Failed::Token)?;
                let request = outgoing.request(token, body).ok_or(Failed::Token)?;
                in_time(self.http.send_anew(server, request)).await
            }
            sent => sent,
        }
    }
}

/// Breaks off a response if the API falls silent.
fn without_silence<B: http_body::Body<Error: Into<BoxError>>>(body: B) -> TimeoutBody<B> {
    TimeoutBody::new(LONGEST_SILENCE, body)
}

async fn in_time(sent: impl Future<Output = Result<Sent, SendError>>) -> Result<Sent, Failed> {
    let sent = tokio::time::timeout(LONGEST_SILENCE, sent).await;
    sent.map_or(Err(Failed::Silence), |sent| sent.map_err(Failed::Send))
}

/// Why there is no response from the API.
enum Failed {
    Send(SendError),
    /// It did not begin in time.
    Silence,
    /// It leads to this other server.
    Redirect(String),
    /// The token cannot be sent in a header.
    Token,
}

/// The request target for the API. `rest` is the path after the account.
///
/// # Errors
/// The path leaves `base`, or the API has no such target.
pub fn target(base: &str, rest: &str, method: &Method, uri: &Uri) -> Result<Uri, CallError> {
    let invalid = |what: &str| CallError::Invalid(what.to_owned());
    let target = path::target(base, rest, uri.query()).map_err(|error| invalid(error.description()))?;
    let target = target.parse().ok().filter(|_| *method != Method::CONNECT);
    target.ok_or_else(|| invalid("the request cannot be forwarded"))
}

/// 503 if the request was certainly not sent, and 502 if the API may have acted on it.
fn failed(failed: &Failed) -> Response<Body> {
    let code = ErrorCode::UpstreamUnavailable;
    match failed {
        Failed::Send(error @ SendError::NotConnected(..)) => {
            let description = format!("the API is unreachable, and the request was not sent: {error}");
            reply::error(503, code, &description, Some(Duration::from_secs(1)))
        }
        Failed::Send(error @ SendError::Broken { .. }) => {
            let description = format!("the API gave no response, and may have acted on the request: {error}");
            reply::error(502, code, &description, None)
        }
        Failed::Silence => {
            let seconds = LONGEST_SILENCE.as_secs();
            let description =
                format!("the API gave no response within {seconds} s, and may have acted on the request");
            reply::error(504, code, &description, None)
        }
        Failed::Redirect(elsewhere) => {
            let description = format!(
                "the API redirects to {elsewhere}, and a request to another server must not carry the token; send it \
                 there without the agent"
            );
            reply::error(502, code, &description, None)
        }
        Failed::Token => reply::error(500, ErrorCode::Internal, "the token cannot be sent in a header", None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_api_that_never_answers_is_given_up() {
        let sent = in_time(std::future::pending()).await;
        let response = failed(&sent.err().unwrap());
        assert_eq!(response.status(), 504);
        assert!(!response.headers().contains_key("retry-after"), "it may have acted on the request");
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_that_stalls_is_broken_off() {
        let (mut sender, body) = http_body_util::Channel::<bytes::Bytes, BoxError>::new(1);
        let mut body = Box::pin(without_silence(body));
        sender.send_data("part".into()).await.unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "part");
        let began = tokio::time::Instant::now();
        assert!(body.frame().await.unwrap().is_err());
        assert!(began.elapsed() < Duration::from_secs(61));
    }
}
