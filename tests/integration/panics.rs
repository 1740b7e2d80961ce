//! A panic is a defect, and is answered as one; the instance lives on.

use super::{config, events, front::context, ports, world};
use lambda_runtime::LambdaEvent;
use serde_json::{Value, json};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use token_broker::{inbound::Handler, broker::Broker, ports::Ports, ports::Secrets};
use protocol::{SecretError, Credentials, AccountName};

/// Panics the first two times.
struct Panicking {
    left: [AtomicBool; 2],
    secrets: Arc<dyn Secrets>,
}

#[async_trait::async_trait]
impl Secrets for Panicking {
    async fn read(&self, name: &AccountName) -> Result<Credentials, SecretError> {
        let panics = self.left.iter().any(|left| left.swap(false, Ordering::Relaxed));
        assert!(!panics, "what callers must not see");
        self.secrets.read(name).await
    }
}

#[tokio::test]
async fn a_panic_is_answered_as_a_defect_without_its_text_and_the_next_request_is_served() {
    let world = world().await;
    let Ports { store, secrets, upstream, clock } = ports(&world).await;
    let secrets = Arc::new(Panicking { left: [true.into(), true.into()], secrets });
    let config = config(&world);
    let broker = Broker::new(config.policy, Ports { store, secrets, upstream, clock });
    let handler = Handler::new(broker, config.callers);
    let ask = async |payload: Value| handler.handle(LambdaEvent::new(payload, context())).await;

    let error = ask(json!({})).await.expect_err("a defect");
    assert_eq!(error.error_type, "internal");
    assert!(!error.error_message.contains("must not see"), "{error:?}");
    let answer = ask(events::read("http-token")).await.expect("an HTTP response");
    assert_eq!(answer["statusCode"], 500);
    assert!(answer["body"].as_str().is_some_and(|body| body.contains(r#""error":"internal""#)), "{answer}");
    assert!(ask(json!({})).await.is_ok());
}
