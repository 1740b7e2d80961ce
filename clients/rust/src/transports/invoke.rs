//! Direct invoke, through Lambda's API.

use super::{Outgoing, json_content};
use crate::{Call, http::BaseUrl};
use http::{HeaderName, HeaderValue, Method};
use std::fmt::Write as _;

/// The broker's function.
pub(crate) struct Invoke {
    pub(crate) endpoint: BaseUrl,
    pub(crate) region: String,
    /// A name or an ARN, with the alias where there is one.
    pub(crate) function: String,
}

impl Invoke {
    pub(super) fn request(&self, call: &Call) -> Outgoing {
        let function = escaped(&self.function);
        Outgoing {
            method: Method::POST,
            path_and_query: format!("{}/2015-03-31/functions/{function}/invocations", self.endpoint.path),
            headers: vec![
                json_content(),
                (
                    HeaderName::from_static("x-amz-invocation-type"),
                    HeaderValue::from_static("RequestResponse"),
                ),
            ],
            body: call.json(true),
        }
    }
}

/// The Region that an ARN of a function names.
pub(crate) fn region_of_arn(function: &str) -> Option<&str> {
    let mut parts = function.split(':');
    let is_lambda = parts.next() == Some("arn") && parts.nth(1) == Some("lambda");
    parts.next().filter(|region| is_lambda && !region.is_empty())
}

/// Lambda's endpoint in a Region.
pub(crate) fn endpoint_of(region: &str) -> String {
    let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("https://lambda.{region}.{suffix}")
}

/// One path segment.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Action;

    #[test]
    fn an_arn_names_its_region() {
        let arn = "arn:aws:lambda:eu-west-1:123456789012:function:token-broker:live";
        assert_eq!(region_of_arn(arn), Some("eu-west-1"));
        assert_eq!(region_of_arn("token-broker:live"), None);
        assert_eq!(region_of_arn("arn:aws:iam::123456789012:role/x"), None);
    }

    #[test]
    fn the_function_is_one_path_segment() {
        let endpoint = BaseUrl::parse("http://127.0.0.1:3001").unwrap();
        let invoke = Invoke { endpoint, region: "us-east-1".into(), function: "a/../b:live".into() };
        let request = invoke.request(&Call::new(Action::Token, None));
        assert_eq!(request.path_and_query, "/2015-03-31/functions/a%2F..%2Fb%3Alive/invocations");
        assert_eq!(request.body, br#"{"action":"token"}"#);
    }

    #[test]
    fn china_has_its_own_domain() {
        assert_eq!(endpoint_of("us-east-1"), "https://lambda.us-east-1.amazonaws.com");
        assert_eq!(endpoint_of("cn-north-1"), "https://lambda.cn-north-1.amazonaws.com.cn");
    }
}
