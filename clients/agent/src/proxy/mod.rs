//! Passes requests on to the API, with the account's token.

mod body;
pub(crate) mod headers;
mod location;
mod path;
mod retry;

use self::body::Kept;
use crate::reply;
use contract::{AccountName, CallError, ErrorCode};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::time::Duration;
use token_broker_client::{
    Token, TokenSource,
    http::{BaseUrl, Body, BoxError, HttpClient, SendError, Sent, collect},
};

/// The body of a refusal is read up to here, so that its connection can be used again.
const MOST_DRAINED: usize = 16 * 1024;
const DRAIN_TIME: Duration = Duration::from_millis(100);

/// The proxy. It talks to one server only.
pub(crate) struct Proxy {
    api: BaseUrl,
    http: HttpClient,
}

/// A request on its way to the API, without token and body.
struct Outgoing {
    method: Method,
    target: Uri,
    headers: HeaderMap,
}

impl Outgoing {
    fn request(&self, token: &Token, body: Body) -> Option<Request<Body>> {
        let is_chunked = body.size_hint().exact().is_none();
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.target.clone();
        request.headers_mut().clone_from(&self.headers);
        request.headers_mut().insert(header::AUTHORIZATION, headers::bearer(&token.access_token)?);
        if is_chunked {
            // Without this header, hyper drops the body of a GET or HEAD.
            request.headers_mut().insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        Some(request)
    }
}

impl Proxy {
    pub(crate) fn new(api: BaseUrl, http: HttpClient) -> Self {
        Self { api, http }
    }

    /// Passes a request on, and the API's response back. `rest` is the path after the account.
    pub(crate) async fn pass(
        &self,
        source: &TokenSource,
        account: &AccountName,
        rest: &str,
        request: Request<Incoming>,
    ) -> Response<Body> {
        let (head, body) = request.into_parts();
        let target = match target(&self.api.path, rest, &head.method, &head.uri) {
            Ok(target) => target,
            Err(error) => return reply::malformed(&error),
        };
        let outgoing = Outgoing { method: head.method, target, headers: headers::for_api(head.headers) };
        let token = match source.get(account).await {
            Ok(token) => token,
            Err(error) => return reply::no_token(&error),
        };
        let Ok((body, kept)) = body::take(body).await else {
            return reply::malformed(&CallError::Invalid("the request's body broke off".to_owned()));
        };
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
                headers::for_caller(&mut head.headers, token.generation);
                self.keep_on_agent(&mut head.headers, account, outgoing.target.path());
                Response::from_parts(head, body.map_err(BoxError::from).boxed_unsync())
            }
            Err(error) => failed(&error),
        }
    }

    /// Makes a `Location` on the API one on the agent, and takes one on another server from the caller.
    fn keep_on_agent(&self, headers: &mut HeaderMap, account: &AccountName, current: &str) {
        let Some(location) = headers.remove(header::LOCATION) else { return };
        let location = std::str::from_utf8(location.as_bytes()).ok();
        let on_agent =
            location.and_then(|location| location::on_agent(&self.api, account, current, location));
        if let Some(location) = on_agent.and_then(|location| HeaderValue::try_from(location).ok()) {
            headers.insert(header::LOCATION, location);
        }
    }

    /// Reports the refused token. With a better one, and if the body was kept, sends the request once more.
    async fn refused(
        &self,
        source: &TokenSource,
        outgoing: &Outgoing,
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
        outgoing: &Outgoing,
        token: &Token,
        body: Body,
        kept: &Kept,
    ) -> Result<Sent, Failed> {
        let request = outgoing.request(token, body).ok_or(Failed::Token)?;
        match self.http.send(&self.api.target, request).await {
            Err(SendError::Broken { reused, .. })
                if retry::may_resend(&outgoing.method, kept.is_empty(), reused) =>
            {
                let body = kept.again().ok_or(Failed::Token)?;
                let request = outgoing.request(token, body).ok_or(Failed::Token)?;
                self.http.send_anew(&self.api.target, request).await.map_err(Failed::Send)
            }
            sent => sent.map_err(Failed::Send),
        }
    }
}

/// Why there is no response of the API.
enum Failed {
    Send(SendError),
    /// The token is no header value.
    Token,
}

/// The request target for the API.
pub(crate) fn target(base: &str, rest: &str, method: &Method, uri: &Uri) -> Result<Uri, CallError> {
    let invalid = |what: &str| CallError::Invalid(what.to_owned());
    let target = path::target(base, rest, uri.query()).map_err(|error| invalid(error.description()))?;
    let target = target.parse().ok().filter(|_| *method != Method::CONNECT);
    target.ok_or_else(|| invalid("the request cannot be passed on"))
}

/// 503 if the request was certainly not sent, and 502 if the API may have acted on it.
fn failed(failed: &Failed) -> Response<Body> {
    let code = ErrorCode::UpstreamUnavailable;
    match failed {
        Failed::Send(error @ SendError::NotConnected(..)) => {
            let description = format!("the API is out of reach, and the request was not sent: {error}");
            reply::error(503, code, &description, Some(Duration::from_secs(1)))
        }
        Failed::Send(error @ SendError::Broken { .. }) => {
            let description = format!("the API gave no response, and may have acted on the request: {error}");
            reply::error(502, code, &description, None)
        }
        Failed::Token => reply::error(500, ErrorCode::Internal, "the token cannot be sent in a header", None),
    }
}
