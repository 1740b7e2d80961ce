//! `docs/dependencies.csv` has one reason for each direct dependency of a shipped crate.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The dependencies of each crate.
type Dependencies = BTreeMap<String, BTreeSet<String>>;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The function, the contract, the protocol, and the clients.
fn manifests() -> Vec<PathBuf> {
    let mut folders = vec![root().to_owned(), root().join("crates/contract"), root().join("crates/protocol")];
    if let Ok(clients) = fs::read_dir(root().join("clients")) {
        folders.extend(clients.map(|client| client.unwrap().path()));
    }
    folders.into_iter().map(|folder| folder.join("Cargo.toml")).filter(|manifest| manifest.exists()).collect()
}

/// The lines of a manifest, each with its table.
fn lines(manifest: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut table = "";
    manifest.lines().filter_map(move |line| {
        if let Some(header) = line.strip_prefix('[') {
            table = header.trim_end_matches(']');
            return None;
        }
        let starts_an_entry = line.starts_with(|first: char| first.is_alphanumeric());
        starts_an_entry.then_some((table, line))
    })
}

/// The name before `=` and before `.workspace`.
fn key(line: &str) -> &str {
    let key = line.split('=').next().unwrap().trim();
    key.split('.').next().unwrap()
}

/// A crate of this workspace, as the root manifest declares it.
fn own_crates() -> BTreeSet<String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    lines(&manifest)
        .filter(|(table, line)| *table == "workspace.dependencies" && line.contains("path ="))
        .map(|(_, line)| key(line).to_owned())
        .collect()
}

/// Whether the dependencies of a table are linked into the program or take part in its build.
fn lists_dependencies(table: &str) -> bool {
    assert!(!table.starts_with("dependencies."), "[{table}]: a dependency is one line under [dependencies]");
    let kind = table.rsplit('.').next();
    matches!(kind, Some("dependencies" | "build-dependencies")) && table != "workspace.dependencies"
}

/// The dependencies in the manifests.
fn declared() -> Dependencies {
    let own = own_crates();
    let mut declared = Dependencies::new();
    for path in manifests() {
        let manifest = fs::read_to_string(&path).unwrap();
        let mut package = lines(&manifest).filter(|(table, _)| *table == "package");
        let (_, name) = package.find(|(_, line)| key(line) == "name").unwrap();
        let dependencies = lines(&manifest)
            .filter(|(table, _)| lists_dependencies(table))
            .map(|(_, line)| key(line).to_owned())
            .filter(|dependency| !own.contains(dependency))
            .collect();
        declared.insert(name.split('"').nth(1).unwrap().to_owned(), dependencies);
    }
    declared
}

/// The rows of the table: crate, dependency, reason.
fn documented() -> Dependencies {
    let table = fs::read_to_string(root().join("docs/dependencies.csv")).unwrap();
    let mut documented = Dependencies::new();
    for row in table.lines().skip(1) {
        let mut cells = row.splitn(3, ',');
        let [name, dependency, reason] = [(); 3].map(|()| cells.next().expect(row).to_owned());
        assert!(reason.len() > 10, "{name}: {dependency} has a reason");
        let is_new = documented.entry(name.clone()).or_default().insert(dependency.clone());
        assert!(is_new, "{name}: {dependency} has one row");
    }
    documented
}

#[test]
fn each_has_one_reason() {
    let (declared, documented) = (declared(), documented());
    assert!(declared.len() > 1 && declared["token-broker"].contains("tokio"), "the manifests were read");
    for (name, dependencies) in &declared {
        let reasons = documented.get(name).cloned().unwrap_or_default();
        let without_reason: Vec<_> = dependencies.difference(&reasons).collect();
        let without_dependency: Vec<_> = reasons.difference(dependencies).collect();
        assert!(
            without_reason.is_empty() && without_dependency.is_empty(),
            "docs/dependencies.csv, {name}: add a row for {without_reason:?}, remove those of {without_dependency:?}"
        );
    }
    let gone: Vec<_> = documented.keys().filter(|name| !declared.contains_key(*name)).collect();
    assert!(gone.is_empty(), "docs/dependencies.csv: no such crate is shipped: {gone:?}");
}
