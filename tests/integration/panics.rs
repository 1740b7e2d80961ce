//! A panic becomes `internal` without its text, and the instance continues.

use crate::{config, events, front::context, instance, lines, ports, world};
use emulators::instance::Instance;
use lambda_runtime::LambdaEvent;
use protocol::{AccountName, Credentials, SecretError};
use serde_json::{Value, json};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use token_broker::{
    broker::Broker,
    config::Config,
    inbound::{Handler, Payload},
    outbound::{HttpUpstream, Roots, SecretsManager, SystemClock, Table, sdk},
    ports::{Clock, Ports, Secrets},
    telemetry::{self, InvocationLog, Style},
};

/// Panics at the first reads.
struct Panicking {
    panics_left: AtomicUsize,
    secrets: Arc<dyn Secrets>,
}

#[async_trait::async_trait]
impl Secrets for Panicking {
    async fn read(&self, name: &AccountName) -> Result<Credentials, SecretError> {
        let one_less = |left: usize| left.checked_sub(1);
        let panics = self.panics_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok();
        let credentials = self.secrets.read(name).await?;
        assert!(!panics, "callers must not see {}", protocol::testing::password(&credentials).expose());
        Ok(credentials)
    }
}

fn panicking(ports: Ports, panics: usize) -> Ports {
    let secrets = Arc::new(Panicking { panics_left: AtomicUsize::new(panics), secrets: ports.secrets });
    Ports { secrets, ..ports }
}

#[tokio::test]
async fn its_text_is_not_shown_and_the_next_request_is_served() {
    let world = world().await;
    let config = config(&world);
    let broker = Broker::new(config.policy, panicking(ports(&world), 2));
    let handler = Handler::new(broker, config.callers);
    let invoke =
        async |payload: Value| handler.handle(LambdaEvent::new(payload, context())).await.map(Value::from);

    let error = invoke(json!({})).await.expect_err("a defect");
    assert_eq!(error.error_type, "internal");
    assert!(!error.error_message.contains("must not see"), "{error:?}");
    let answer = invoke(events::read("http-token")).await.expect("an HTTP response");
    assert_eq!(answer["statusCode"], 500);
    assert!(answer["body"].as_str().is_some_and(|body| body.contains(r#""error":"internal""#)), "{answer}");
    assert!(invoke(json!({})).await.is_ok());
}

/// The function as a process, except that the first two reads of a secret panic.
pub(crate) async fn start_panicking(environment: Vec<(&'static str, String)>) -> Instance {
    let this_program = std::env::current_exe().expect("this program");
    let arguments = ["--exact", "panics::serve", "--ignored", "--nocapture", "--quiet", "--test-threads=1"];
    Instance::start_program(&this_program, &arguments, environment).await
}

#[tokio::test]
#[ignore = "the process that other tests start"]
#[expect(clippy::disallowed_methods, reason = "this is the function's process")]
async fn serve() {
    let lookup = |name: &str| std::env::var(name).ok();
    let config = Config::from_environment(lookup).expect("a configuration");
    telemetry::start(config.log);
    telemetry::hide_panic_texts(|| SystemClock.now());
    let tls = Roots::default().tls_config().expect("the authorities");
    let sdk = sdk::load(lookup, tls.clone()).await.expect("a client");
    let (clock, timeout) = (Arc::new(SystemClock), config.policy.upstream_timeout);
    let convirza =
        HttpUpstream::new(tls, config.oauth_url, config.api_url, config.revoke_field, timeout, clock.clone());
    let ports = Ports {
        store: Arc::new(Table::new(&sdk, config.table, config.upstream_hosts.clone(), clock.clone())),
        secrets: Arc::new(SecretsManager::new(&sdk, config.secret_prefix, config.upstream_hosts)),
        upstream: Arc::new(convirza),
        clock,
    };
    let log = InvocationLog::new(&config.function, config.audit, Style::Json, telemetry::write_to_stdout);
    let broker = Broker::new(config.policy, panicking(ports, 2));
    let handler = Handler::new(broker, config.callers).logging_to(log);
    let service = lambda_runtime::service_fn(move |event: LambdaEvent<Payload>| {
        let handler = handler.clone();
        async move { handler.handle(event).await }
    });
    lambda_runtime::run_concurrent(service).await.expect("the Runtime API");
}

#[tokio::test(flavor = "multi_thread")]
async fn its_text_is_not_logged_but_its_place_is() {
    let world = world().await;
    let mut environment = world.environment();
    environment.push(("BROKER_LOG", "trace".to_owned()));
    let rule = r#"[{"caller":"direct","accounts":["*"],"actions":["*"],"audit":true}]"#;
    environment.push(("BROKER_CALLERS", rule.to_owned()));
    let instance = start_panicking(environment).await;
    for _ in 0..2 {
        assert_eq!(instance.invoke(json!({})).await.expect_err("a defect")["errorType"], "internal");
    }
    instance.invoke(json!({})).await.expect("a token");
    let output = instance.output().await;
    assert!(!output.contains("must not see"), "{output}");
    let logged: Vec<&str> = output.lines().filter(|line| line.starts_with('{')).collect();
    let panics: Vec<&&str> = logged.iter().filter(|line| line.contains(r#""place":"panics.rs:"#)).collect();
    assert_eq!(panics.len(), 2, "{output}");
    let lines = lines::invocations(&logged.join("\n"));
    let outcomes: Vec<&Value> = lines.iter().map(|line| &line["outcome"]).collect();
    assert_eq!(outcomes, ["internal", "internal", "ok"]);
    assert!(
        lines.iter().all(|line| line["audit_rule"].is_u64()),
        "the rule that allowed them is in each: {lines:?}"
    );
}

/// The same for the runtime's own panics. This one would say that the variable is not a number.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_at_start_does_not_show_its_text() {
    let world = world().await;
    let mut instance = instance::start(&world, &[("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "tell-tale")]).await;
    assert!(!instance.ended().await.success());
    let output = instance.output().await;
    assert!(output.contains("the broker panicked"), "{output}");
    assert!(!output.contains("MEMORY_SIZE"), "{output}");
}
