//! The three transports to the broker: each turns a call into a request, and a response into an answer. Pure, but for
//! the file of a guard token.

mod agent;
mod http_api;
mod invoke;
mod response;

use crate::{Call, Error, Reply, http::Target};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header::HeaderName};

pub(crate) use agent::Agent;
pub(crate) use http_api::{HttpApi, names_its_region};
pub(crate) use invoke::{Invoke, endpoint_of, region_of_arn};

/// A request of a transport. It is signed and sent elsewhere.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) path_and_query: String,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Vec<u8>,
}

/// A transport to the broker.
pub(crate) enum Transport {
    Agent(Agent),
    Invoke(Invoke),
    HttpApi(HttpApi),
}

impl Transport {
    pub(crate) fn target(&self) -> &Target {
        match self {
            Self::Agent(agent) => &agent.target,
            Self::Invoke(invoke) => &invoke.endpoint.target,
            Self::HttpApi(api) => &api.base.target,
        }
    }

    /// The service and the Region to sign for. Calls to the agent are not signed.
    pub(crate) fn signing(&self) -> Option<(&'static str, &str)> {
        match self {
            Self::Agent(_) => None,
            Self::Invoke(invoke) => Some(("lambda", &invoke.region)),
            Self::HttpApi(api) => Some((api.service, &api.region)),
        }
    }

    pub(crate) fn request(&self, call: &Call) -> Result<Outgoing, Error> {
        match self {
            Self::Agent(agent) => agent.request(call),
            Self::Invoke(invoke) => Ok(invoke.request(call)),
            Self::HttpApi(api) => Ok(api.request(call)),
        }
    }

    pub(crate) fn read(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: Vec<u8>,
    ) -> Result<Reply, Error> {
        match self {
            Self::Agent(_) | Self::HttpApi(_) => response::http(status, headers, body),
            Self::Invoke(_) => response::invoke(status, headers, body),
        }
    }
}

/// The media type of bodies in both directions.
fn json_content() -> (HeaderName, HeaderValue) {
    (http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
}
