//! The modules of the function depend on each other as docs/ARCHITECTURE.md says.

use crate::page::{files, read};

#[test]
fn modules_reach_only_what_they_may() {
    for (folder, forbidden) in [
        ("src/inbound", &["outbound", "config"][..]),
        ("src/broker", &["outbound", "inbound", "config", "telemetry"]),
        ("src/telemetry", &["outbound", "inbound", "broker", "config", "ports"]),
        ("src/outbound", &["inbound", "broker", "config", "telemetry"]),
    ] {
        let mut sources = files(folder, "rs");
        let own = format!("{folder}.rs");
        sources.extend(files("src", "rs").into_iter().filter(|path| path.to_str() == Some(&*own)));
        // Tests build the whole from its parts.
        sources.retain(|path| !path.ends_with("tests.rs"));
        assert!(!sources.is_empty(), "{folder}");
        for path in sources {
            let text = read(&path);
            let text = text.split("#[cfg(test)]").next().unwrap_or_default();
            let imports = text.split("use crate::").skip(1).filter_map(|rest| rest.split(';').next());
            let is_part = |character: char| character.is_alphanumeric() || character == '_';
            let words: Vec<_> =
                imports.flat_map(|import| import.split(|character| !is_part(character))).collect();
            for module in forbidden {
                assert!(!words.contains(module), "{} uses {module}", path.display());
            }
        }
    }
}
