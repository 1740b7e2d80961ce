//! No link is broken.

use crate::page::{Page, page, pages, quoted, read, root};
use std::path::Path;

/// Why a relative link leads nowhere.
fn fault(from: &Page, link: &str) -> Option<String> {
    let (path, anchor) = link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
    let folder = from.path.parent().unwrap();
    let target = if path.is_empty() { from.path.clone() } else { folder.join(path) };
    let Ok(text) = std::fs::read_to_string(root().join(&target)) else {
        // A folder or a picture.
        return (!root().join(&target).exists()).then(|| "there is no such file".to_owned());
    };
    let page = Page { path: target, text };
    let is_there = anchor.is_none_or(|anchor| page.anchors().iter().any(|found| found == anchor));
    (!is_there).then(|| format!("its headings are {:?}", page.anchors()))
}

#[test]
fn relative_links_resolve() {
    let mut faults = Vec::new();
    for page in pages() {
        let links = page.links();
        let relative = links.iter().filter(|link| !link.contains("://") && !link.starts_with("mailto:"));
        faults
            .extend(relative.filter_map(|link| {
                Some(format!("{}: {link}: {}", page.path.display(), fault(&page, link)?))
            }));
    }
    assert!(faults.is_empty(), "links that lead nowhere:\n{}", faults.join("\n"));
}

#[test]
fn paths_of_the_repository_exist() {
    const FOLDERS: [&str; 8] =
        ["src/", "crates/", "clients/", "tests/", "docs/", "events/", "examples/", "scripts/"];
    let mut missing = Vec::new();
    for page in pages() {
        for line in page.prose() {
            let paths = quoted(line).into_iter().filter(|path| {
                FOLDERS.iter().any(|folder| path.starts_with(folder)) && !path.contains([' ', '*', '{', '…'])
            });
            let gone = paths.filter(|path| !root().join(path).exists() && !Path::new(path).is_absolute());
            missing.extend(gone.map(|path| format!("{}: {path}", page.path.display())));
        }
    }
    assert!(missing.is_empty(), "paths that do not exist:\n{}", missing.join("\n"));
}

#[test]
fn commands_name_the_repository_of_cargo_toml() {
    let manifest = read("Cargo.toml");
    let repository =
        manifest.lines().find_map(|line| line.strip_prefix("repository = \"https://github.com/"));
    let repository = repository.and_then(|rest| rest.strip_suffix('"'));
    let mut found = 0;
    for page in pages().into_iter().chain([page("examples/testing/github.yaml")]) {
        for rest in page.text.split(" --repo ").skip(1) {
            assert_eq!(rest.split_whitespace().next(), repository, "{}", page.path.display());
            found += 1;
        }
    }
    assert!(found > 0, "the documents have such commands");
}
