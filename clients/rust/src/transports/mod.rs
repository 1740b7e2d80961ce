//! The three transports to the broker. Those over HTTP turn a call into a request, and a response into an answer.

mod agent;
#[cfg(feature = "aws")]
mod http_api;
#[cfg(feature = "aws")]
mod invoke;
mod response;

use crate::Error;
use http::{HeaderValue, Method, Request, header::HeaderName};

pub(crate) use agent::Agent;
#[cfg(feature = "aws")]
pub(crate) use http_api::{HttpApi, region_of};
#[cfg(feature = "aws")]
pub(crate) use invoke::{Invoke, region_of_arn};
pub(crate) use response::http as read;

/// A request of a transport. It is signed and sent elsewhere.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) path_and_query: String,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Vec<u8>,
}

impl Outgoing {
    pub(crate) fn into_request(self) -> Result<Request<Vec<u8>>, Error> {
        let malformed = |_| Error::InvalidCall("the call does not fit into a request".to_owned());
        let mut request = Request::new(self.body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.path_and_query.parse().map_err(malformed)?;
        request.headers_mut().extend(self.headers);
        Ok(request)
    }
}

/// The media type of bodies in both directions.
#[cfg(feature = "aws")]
fn json_content() -> (HeaderName, HeaderValue) {
    (http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
}
