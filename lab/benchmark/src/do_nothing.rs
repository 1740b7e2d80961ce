//! A do-nothing function on the broker's runtime.

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde::de::IgnoredAny;
use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let answer = async |_event: LambdaEvent<IgnoredAny>| Ok::<Value, Error>(json!({}));
    lambda_runtime::run_concurrent(service_fn(answer)).await
}
