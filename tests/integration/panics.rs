//! A panic is answered as `internal`, and the instance goes on.

use crate::{config, events, front::context, ports, world};
use lambda_runtime::LambdaEvent;
use protocol::{AccountName, Credentials, SecretError};
use serde_json::{Value, json};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use token_broker::{
    broker::Broker,
    inbound::Handler,
    ports::{Ports, Secrets},
};

/// Panics at the first two reads.
struct Panicking {
    panics: [AtomicBool; 2],
    secrets: Arc<dyn Secrets>,
}

#[async_trait::async_trait]
impl Secrets for Panicking {
    async fn read(&self, name: &AccountName) -> Result<Credentials, SecretError> {
        let panics = self.panics.iter().any(|panics| panics.swap(false, Ordering::Relaxed));
        assert!(!panics, "callers must not see this");
        self.secrets.read(name).await
    }
}

#[tokio::test]
async fn its_text_is_not_shown_and_the_next_request_is_served() {
    let world = world().await;
    let Ports { store, secrets, upstream, clock } = ports(&world).await;
    let secrets = Arc::new(Panicking { panics: [true.into(), true.into()], secrets });
    let config = config(&world);
    let broker = Broker::new(config.policy, Ports { store, secrets, upstream, clock });
    let handler = Handler::new(broker, config.callers);
    let invoke = async |payload: Value| handler.handle(LambdaEvent::new(payload, context())).await;

    let error = invoke(json!({})).await.expect_err("a defect");
    assert_eq!(error.error_type, "internal");
    assert!(!error.error_message.contains("must not see"), "{error:?}");
    let answer = invoke(events::read("http-token")).await.expect("an HTTP response");
    assert_eq!(answer["statusCode"], 500);
    assert!(answer["body"].as_str().is_some_and(|body| body.contains(r#""error":"internal""#)), "{answer}");
    assert!(invoke(json!({})).await.is_ok());
}
