//! Commands that a document marks as runnable do run, and print what the document says.
//!
//! The mark is a comment before the block: `<!-- runs: local; prints: "access_token" -->`. Each block runs in its own
//! shell against a new local stack, as if `cargo local` were running.

use crate::page::pages;
use local::stack::{Options, Stack};
use std::{path::PathBuf, process::Command};

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

/// The script, with the addresses of this stack instead of the documents'.
fn addressed(script: &str, stack: &Stack) -> String {
    script
        .replace("http://127.0.0.1:7070", &stack.broker.url())
        .replace("http://127.0.0.1:7071", &stack.world.convirza.url())
        .replace("http://127.0.0.1:2774", &stack.agent.url())
}

#[tokio::test(flavor = "multi_thread")]
async fn marked_commands_run_and_print_what_is_promised() {
    let examples = examples();
    assert!(examples.iter().any(|example| example.path.as_os_str() == "README.md"), "the marks were found");
    for Example { path, script, prints } in examples {
        let options = Options { agent_port: Some("0".to_owned()), ..Options::default() };
        let stack = Stack::start(options, |_| {}).await.expect("the local stack starts");
        let script = addressed(&script, &stack);
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
