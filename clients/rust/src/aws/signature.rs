//! Signature version 4, for the broker's HTTP API. The SDK signs its own calls.

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign as signature_of},
    sign::v4,
};
use contract::Timestamp;
use http::Request;
use std::time::{Duration, UNIX_EPOCH};

/// Signs a request that is about to be sent to `url`.
pub(crate) fn sign(
    request: &mut Request<Vec<u8>>,
    url: &str,
    credentials: Credentials,
    (service, region): (&str, &str),
    now: Timestamp,
) -> Result<(), String> {
    let identity = credentials.into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(service)
        .time(UNIX_EPOCH + Duration::from_millis(now.as_millis()))
        .settings(SigningSettings::default())
        .build()
        .map_err(|error| error.to_string())?
        .into();
    let headers =
        request.headers().iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    let signable =
        SignableRequest::new(request.method().as_str(), url, headers, SignableBody::Bytes(request.body()))
            .map_err(|error| error.to_string())?;
    let (instructions, _) =
        signature_of(signable, &parameters).map_err(|error| error.to_string())?.into_parts();
    let (headers, _) = instructions.into_parts();
    for header in headers {
        let mut value = http::HeaderValue::from_str(header.value()).map_err(|error| error.to_string())?;
        value.set_sensitive(true);
        request.headers_mut().insert(header.name(), value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_aws_documentations_example_has_its_signature() {
        let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        let credentials = Credentials::new("AKIDEXAMPLE", secret, None, None, "test");
        // 2015-08-30T12:36:00Z, test vector "get-vanilla" of the signature version 4 test suite.
        let now = Timestamp::from_millis(1_440_938_160_000);
        let mut request = Request::get("/").body(Vec::new()).unwrap();
        let scope = ("service", "us-east-1");
        sign(&mut request, "https://example.amazonaws.com/", credentials, scope, now).unwrap();
        let authorization = request.headers()["authorization"].to_str().unwrap();
        assert!(
            authorization.ends_with("5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            "{authorization}"
        );
        assert!(request.headers()["authorization"].is_sensitive());
    }
}
