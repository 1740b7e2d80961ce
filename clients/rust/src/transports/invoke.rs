//! Direct invocation, by the AWS SDK's Lambda client, which retries throttled and interrupted calls.

use super::response;
use crate::{Call, Error, Reply, aws::Aws, error::cut, http::chain};
use aws_sdk_lambda::{
    Client,
    error::SdkError,
    operation::{RequestId, invoke::InvokeError},
    primitives::Blob,
};

/// The broker's function.
pub(crate) struct Invoke {
    pub(crate) aws: Aws,
    pub(crate) lambda: Client,
    /// A name or an ARN, with the alias if there is one.
    pub(crate) function: String,
}

impl Invoke {
    pub(crate) async fn carry(&self, call: &Call) -> Result<Reply, Error> {
        // Asked for here, because the SDK does not distinguish a failure to sign from a failure to send.
        self.aws.credentials.get().await?;
        let payload = Blob::new(call.to_json(true));
        let sent = self.lambda.invoke().function_name(&self.function).payload(payload).send().await;
        let output = sent.map_err(|error| failed(&error, &self.function))?;
        let request_id = output.request_id().map(str::to_owned);
        let has_failed = output.function_error.is_some();
        let payload = output.payload.map(Blob::into_inner).unwrap_or_default();
        if has_failed { Err(response::function_error(&payload, request_id)) } else { Ok(Reply::new(payload)) }
    }
}

fn failed(error: &SdkError<InvokeError>, function: &str) -> Error {
    let (SdkError::ServiceError(refusal), Some(response)) = (error, error.raw_response()) else {
        return Error::Unreachable(chain(error));
    };
    let meta = refusal.err().meta();
    let reason = [meta.code(), meta.message()].into_iter().flatten().collect::<Vec<_>>().join(" ");
    if refusal.err().is_resource_not_found_exception() {
        return Error::NotConfigured(format!(
            "Lambda does not know the function {function}: {}",
            cut(&reason)
        ));
    }
    Error::Intercepted {
        status: response.status().as_u16(),
        reason: cut(&reason),
        retry_after: response.headers().get("retry-after").and_then(response::seconds),
    }
}

/// The Region that an ARN of a function names.
pub(crate) fn region_of_arn(function: &str) -> Option<&str> {
    let mut parts = function.split(':');
    let is_lambda = parts.next() == Some("arn") && parts.nth(1) == Some("lambda");
    parts.next().filter(|region| is_lambda && !region.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_names_its_region() {
        let arn = "arn:aws:lambda:eu-west-1:123456789012:function:token-broker:live";
        assert_eq!(region_of_arn(arn), Some("eu-west-1"));
        assert_eq!(region_of_arn("token-broker:live"), None);
        assert_eq!(region_of_arn("arn:aws:iam::123456789012:role/x"), None);
    }
}
