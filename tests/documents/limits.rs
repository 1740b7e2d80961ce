//! Every page has a limit of length.

use crate::page::{files, page, root};

/// The most words of a page.
const WORDS: [(&str, usize); 9] = [
    ("docs/ARCHITECTURE.md", 1_500),
    ("docs/EVIDENCE.md", 1_500),
    ("docs/GRANTS.md", 1_200),
    ("docs/MIGRATION.md", 700),
    ("docs/PROTOCOL.md", 3_000),
    ("docs/RUNTIMES.md", 1_200),
    ("docs/SIMULATION.md", 1_500),
    ("docs/TESTING.md", 1_200),
    ("docs/UPSTREAM.md", 800),
];

#[test]
fn pages_stay_within_their_word_limits() {
    let lengths = WORDS.map(|(path, most)| (path, page(path).words(), most));
    let too_long: Vec<_> = lengths.iter().filter(|(_, words, most)| words > most).collect();
    assert!(too_long.is_empty(), "page, words, at most: {too_long:?}");
}

#[test]
fn the_readme_has_at_most_150_lines() {
    let lines = page("README.md").text.lines().count();
    assert!(lines <= 150, "{lines} lines");
}

#[test]
fn pictures_have_at_most_150_kb() {
    let sizes: Vec<_> = files("docs", "png")
        .into_iter()
        .map(|path| (std::fs::metadata(root().join(&path)).unwrap().len(), path))
        .collect();
    let too_large: Vec<_> = sizes.iter().filter(|(bytes, _)| *bytes > 150_000).collect();
    assert!(!sizes.is_empty() && too_large.is_empty(), "bytes, path: {too_large:?}");
}
