//! `docs/known_failures.csv` names every test of a known failure, and each failure has a test.
//!
//! Such a test's name begins with the failure's number, as in `f07_…`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The names after each `mark` in a text that begin with the number of a failure.
fn names(text: &str, mark: &str) -> BTreeSet<String> {
    let numbered = |name: &&str| {
        let number = name.strip_prefix('f').and_then(|rest| rest.split_once('_'));
        number.is_some_and(|(number, _)| number.len() == 2 && number.parse::<u8>().is_ok())
    };
    let words = text.split(mark).skip(1).filter_map(|rest| rest.split(['(', ' ', '\n']).next());
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

/// `src` and `tests` of every package of the workspace.
fn source_folders(root: &Path) -> impl Iterator<Item = PathBuf> {
    let members =
        ["crates", "clients"].map(|folder| fs::read_dir(root.join(folder)).unwrap()).into_iter().flatten();
    let packages = members.map(|member| member.unwrap().path()).chain([root.to_owned()]);
    packages.flat_map(|package| [package.join("src"), package.join("tests")]).filter(|folder| folder.is_dir())
}

#[test]
fn the_table_names_exactly_the_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = fs::read_to_string(root.join("docs/known_failures.csv")).unwrap();
    // The tests are in the last column, separated by spaces.
    let documented = names(&table.replace(',', " "), " ");
    let tested: BTreeSet<String> =
        source_folders(root).flat_map(|folder| names_in_sources(&folder)).collect();
    let missing: Vec<_> = documented.difference(&tested).collect();
    let undocumented: Vec<_> = tested.difference(&documented).collect();
    assert!(
        missing.is_empty() && undocumented.is_empty(),
        "in the table only: {missing:#?}, in the sources only: {undocumented:#?}"
    );
    for number in 1..=20 {
        let mark = format!("f{number:02}_");
        assert!(tested.iter().any(|name| name.contains(&mark)), "{mark}");
    }
}
