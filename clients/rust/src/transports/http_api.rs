//! The broker's HTTP API.

use super::{Outgoing, json_content};
use crate::{
    Call, Clock, Error, SystemClock,
    aws::{Aws, sign},
    http::BaseUrl,
};
use http::{Method, Request};

/// An API Gateway stage or a Function URL.
pub(crate) struct HttpApi {
    pub(crate) aws: Aws,
    pub(crate) base: BaseUrl,
    pub(crate) region: String,
    pub(crate) service: &'static str,
}

impl HttpApi {
    /// For hosts that do not name their Region, the Region of the SDK's settings.
    pub(crate) fn new(aws: Aws, base: BaseUrl) -> Result<Self, Error> {
        let (service, named) = service_and_region(base.target.host());
        let region = named.map_or_else(|| aws.region(), Ok)?.to_owned();
        Ok(Self { aws, base, region, service })
    }

    pub(crate) async fn request(&self, call: &Call) -> Result<Request<Vec<u8>>, Error> {
        let mut request = outgoing(&self.base.path, call).into_request()?;
        let credentials = self.aws.credentials.get().await?;
        let url = format!("{}{}", self.base.target, request.uri());
        let scope = (self.service, self.region.as_str());
        sign(&mut request, &url, credentials, scope, SystemClock.now()).map_err(Error::Unsigned)?;
        Ok(request)
    }
}

fn outgoing(base: &str, call: &Call) -> Outgoing {
    let path = format!("{base}/{}", call.action.name());
    if call.action.method() == Some("GET") {
        return Outgoing {
            method: Method::GET,
            path_and_query: path + &call.to_query(),
            headers: Vec::new(),
            body: Vec::new(),
        };
    }
    Outgoing {
        method: Method::POST,
        path_and_query: path,
        headers: vec![json_content()],
        body: call.to_json(false),
    }
}

/// The Region that a URL of AWS names.
pub(crate) fn region_of(base: &BaseUrl) -> Option<&str> {
    service_and_region(base.target.host()).1
}

/// The service and the Region that a host name of AWS names: `ID.execute-api.REGION.amazonaws.com`,
/// `ID.lambda-url.REGION.on.aws`. `behaviour.json` in the contract has the cases.
fn service_and_region(host: &str) -> (&'static str, Option<&str>) {
    let mut labels = host.splitn(4, '.').skip(1);
    match (labels.next(), labels.next(), labels.next()) {
        (
            Some("execute-api"),
            Some(region),
            Some("amazonaws.com" | "amazonaws.com.cn" | "amazonaws.eu" | "vpce.amazonaws.com"),
        ) => ("execute-api", Some(region)),
        (Some("lambda-url"), Some(region), Some("on.aws")) => ("lambda", Some(region)),
        _ => ("execute-api", None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::{AccountName, Action};

    #[test]
    fn the_host_tells_service_and_region() {
        let file: serde_json::Value =
            serde_json::from_str(include_str!("../../../../crates/contract/behaviour.json")).unwrap();
        for case in file["hosts"].as_array().unwrap() {
            let base = BaseUrl::parse(&format!("https://{}", case["host"].as_str().unwrap())).unwrap();
            let (service, region) = service_and_region(base.target.host());
            assert_eq!(
                (Some(service), region),
                (case["service"].as_str(), case["region"].as_str()),
                "{case}"
            );
        }
    }

    #[test]
    fn each_action_has_its_route() {
        let account = AccountName::parse("emea");
        for (action, method, path, body) in [
            (Action::Token, Method::POST, "/prod/token", r#"{"account":"emea"}"#),
            (Action::Status, Method::GET, "/prod/status?account=emea", ""),
            (Action::Unblock, Method::POST, "/prod/unblock", r#"{"account":"emea"}"#),
        ] {
            let request = outgoing("/prod", &Call::new(action, account.clone()));
            assert_eq!((request.method, request.path_and_query.as_str()), (method, path));
            assert_eq!(request.body, body.as_bytes());
        }
    }
}
