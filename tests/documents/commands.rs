//! Commands that a document marks as runnable run, and print what it says.
//!
//! The mark is a comment before the block: `<!-- runs: local; prints: "access_token" -->`. Each block runs in a shell of
//! its own against a new local stack with an agent, as if `cargo local` and the agent of the README were running.

use crate::page::pages;
use emulators::{Ports, World, convirza::Settings};
use local::{front, wiring};
use std::{path::PathBuf, process::Command, sync::Arc, time::Duration};
use token_broker::{broker::Broker, inbound::Handler, outbound::SystemClock};
use token_broker_agent::{Agent, Listening};
use token_broker_client::{BrokerClient, Environment, TokenSource, http::HttpClient};
use tokio::sync::oneshot;

const MARK: &str = "<!-- runs: local; prints: ";
const GUARD: &str = "guard";

/// A block that can be run, and the texts that it prints.
struct Example {
    path: PathBuf,
    script: String,
    prints: Vec<String>,
}

fn examples() -> Vec<Example> {
    let mut examples = Vec::new();
    for page in pages() {
        for part in page.text.split(MARK).skip(1) {
            let (mark, rest) = part.split_once(" -->").expect("the mark ends");
            let script =
                rest.trim_start().strip_prefix("```sh\n").expect("a block of the shell follows the mark");
            examples.push(Example {
                path: page.path.clone(),
                script: script.split("```").next().unwrap().to_owned(),
                prints: mark.split('"').skip(1).step_by(2).map(str::to_owned).collect(),
            });
        }
    }
    examples
}

/// The local stack and an agent, at any free ports.
struct Stack {
    world: World,
    broker: emulators::server::Server,
    agent: u16,
    _stop_agent: oneshot::Sender<()>,
}

impl Stack {
    async fn start() -> Self {
        let world = World::start(Ports::default(), Settings::default()).await.expect("the world starts");
        let everything = [front::LOCAL_IDENTITY, "direct"]
            .map(|caller| format!(r#"{{"caller":"{caller}","accounts":["*"],"actions":["*"]}}"#));
        let rules = [("BROKER_CALLERS", format!("[{}]", everything.join(",")))];
        let config = wiring::config(&world, &rules).expect("a valid configuration");
        let ports = wiring::ports(&world, &config, Arc::new(SystemClock)).expect("the adapters");
        let handler = Handler::new(Broker::new(config.policy, ports), config.callers);
        let broker = front::start(0, handler).await.expect("the front starts");

        let environment: Environment = [
            ("TOKEN_BROKER_TOKEN", GUARD.to_owned()),
            ("CONVIRZA_API_URL", world.convirza.url()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "local".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "local".to_owned()),
        ]
        .into_iter()
        .collect();
        let settings = token_broker_agent::Settings::parse(&environment).expect("valid settings");
        let client = BrokerClient::http_api(&environment, &broker.url()).expect("a URL");
        let http =
            HttpClient::new(token_broker_client::SystemClock, environment.roots(), Duration::from_secs(5));
        let agent = Arc::new(Agent::new(&settings, TokenSource::new(client), http));
        let listening = Listening::on(0).await.expect("a free port");
        let port = listening.address().port();
        let (stop_agent, stopped) = oneshot::channel();
        let until = async {
            let _ = stopped.await;
        };
        tokio::spawn(listening.serve(agent, until, Duration::ZERO));
        Self { world, broker, agent: port, _stop_agent: stop_agent }
    }

    /// The script, with the addresses of this stack for those of the documents.
    fn script(&self, script: &str) -> String {
        script
            .replace("http://127.0.0.1:7070", &self.broker.url())
            .replace("http://127.0.0.1:7071", &self.world.convirza.url())
            .replace("http://127.0.0.1:2774", &format!("http://127.0.0.1:{}", self.agent))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn marked_commands_run_and_print_what_is_promised() {
    let examples = examples();
    assert!(examples.iter().any(|example| example.path.as_os_str() == "README.md"), "the marks were found");
    for Example { path, script, prints } in examples {
        let stack = Stack::start().await;
        let script = stack.script(&script);
        let command = script.clone();
        let output =
            tokio::task::spawn_blocking(move || Command::new("sh").arg("-euc").arg(command).output());
        let output = output.await.unwrap().expect("a shell with curl");
        let printed = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        let mut rest = &*printed;
        for text in &prints {
            let found = rest.split_once(text.as_str());
            let (_, after) =
                found.unwrap_or_else(|| panic!("{}:\n{script}\nlacks {text}:\n{printed}", path.display()));
            rest = after;
        }
        assert!(output.status.success(), "{}:\n{script}\n{printed}", path.display());
    }
}
