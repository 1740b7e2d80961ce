//! Commands that a document marks as runnable run, and print what it says.
//!
//! The mark is a comment before the block: `<!-- runs: local; prints: "access_token" -->`. Each block runs in a shell of
//! its own against a new local stack, as if `cargo local` were running.

use crate::page::pages;
use emulators::{Ports, World, convirza::Settings};
use local::{
    agent::{self, LocalAgent},
    front, wiring,
};
use std::{path::PathBuf, process::Command, sync::Arc};
use token_broker::outbound::SystemClock;

const MARK: &str = "<!-- runs: local; prints: ";

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

/// The local stack, at any free ports.
struct Stack {
    world: World,
    broker: emulators::server::Server,
    agent: LocalAgent,
}

impl Stack {
    async fn start() -> Self {
        let world = World::start(Ports::default(), Settings::default()).await.expect("the world starts");
        let everything = [front::LOCAL_IDENTITY, "direct"]
            .map(|caller| format!(r#"{{"caller":"{caller}","accounts":["*"],"actions":["*"]}}"#));
        let rules = [("BROKER_CALLERS", format!("[{}]", everything.join(",")))];
        let config = wiring::config(&world, &rules).expect("a valid configuration");
        let ports = wiring::ports(&world, &config, Arc::new(SystemClock)).expect("the adapters");
        let broker = front::start(0, wiring::handler(&config, ports)).await.expect("the front starts");
        let agent = agent::start(&world, &broker.url(), Some("0")).await.expect("the agent starts");
        Self { world, broker, agent }
    }

    /// The script, with the addresses of this stack for those of the documents.
    fn script(&self, script: &str) -> String {
        script
            .replace("http://127.0.0.1:7070", &self.broker.url())
            .replace("http://127.0.0.1:7071", &self.world.convirza.url())
            .replace("http://127.0.0.1:2774", &self.agent.url())
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
