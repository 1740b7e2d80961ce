//! The table of known failures in `docs/PROTOCOL.md` names the tests that there are, and each failure has one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, fs, path::Path};

/// The names in a text that stand behind a mark and begin with the number of a failure, as `f07_` does.
fn names(text: &str, mark: &str) -> BTreeSet<String> {
    let numbered = |name: &&str| {
        let number = name.strip_prefix('f').and_then(|rest| rest.split_once('_'));
        number.is_some_and(|(number, _)| number.len() == 2 && number.parse::<u8>().is_ok())
    };
    let words = text.split(mark).skip(1).filter_map(|rest| rest.split(['(', '`']).next());
    words.filter(numbered).map(str::to_owned).collect()
}

fn names_in_sources(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.append(&mut names_in_sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.append(&mut names(&fs::read_to_string(path).unwrap(), "fn "));
        }
    }
    found
}

#[test]
fn each_of_the_twenty_is_tested_by_the_tests_that_are_written_down() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let documented = names(&fs::read_to_string(root.join("docs/PROTOCOL.md")).unwrap(), "`");
    let mut tested = names_in_sources(&root.join("src"));
    tested.append(&mut names_in_sources(&root.join("tests")));
    assert_eq!(documented, tested);
    for number in 1..=20 {
        let mark = format!("f{number:02}_");
        assert!(tested.iter().any(|name| name.contains(&mark)), "{mark}");
    }
}
