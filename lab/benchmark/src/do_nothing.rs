//! A function that does nothing, on the runtime that the broker has.

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde::de::IgnoredAny;
use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let answer = async |_event: LambdaEvent<IgnoredAny>| Ok::<Value, Error>(json!({}));
    lambda_runtime::run_concurrent(service_fn(answer)).await
}
