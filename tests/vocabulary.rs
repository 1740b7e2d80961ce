//! The code uses the vocabulary of its field and shares code through crates.
//!
//! Comments and the contents of string and character literals do not count: the contract fixes some of those texts,
//! such as the field `dialect` of a secret.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Words that no identifier and no file name may contain, each with the term to use instead.
const PRIVATE_WORDS: [(&[&str], &str); 23] = [
    (&["ledger", "ledgers"], "login limiter"),
    (&["debit", "debits", "debited"], "permit"),
    (&["pay", "pays", "paid", "paying"], "acquire a permit"),
    (&["slot", "slots", "turn", "turns"], "single-flight entry or guard"),
    (&["recall", "recalled"], "lookup"),
    (&["remembered", "unsaved"], "pending write"),
    (&["volunteer", "volunteers", "volunteered", "shyness"], "early refresh"),
    (&["crowd", "crowds"], "contention, or thundering herd"),
    (&["resting"], "cooldown"),
    (&["parked", "unpark", "unparks", "unparked"], "rejected secret"),
    (&["spent"], "consumed"),
    (&["outrun"], "lease conflict"),
    (&["overtaken"], "lease lost"),
    (&["ask", "asked", "unasked"], "request"),
    (&["goal", "goals"], "intent"),
    (&["problem", "problems"], "error"),
    (&["dialect", "dialects"], "API version"),
    (&["worthless"], "garbage collection"),
    (&["letter", "letters"], "message"),
    (&["weather"], "faults"),
    (&["today"], "baselines"),
    (&["judge", "judged", "judging"], "invariant"),
    (&["room", "rooms", "house", "houses"], "the component's name"),
];

/// A source file with its comments and literals blanked out.
struct Source {
    path: PathBuf,
    code: String,
}

/// Every Rust source file of the repository.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy();
            if path.is_dir() && !name.starts_with('.') && name != "target" {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let code = without_comments_and_literals(&fs::read_to_string(&path).unwrap());
                sources.push(Source { path: path.strip_prefix(root).unwrap().to_owned(), code });
            }
        }
    }
    assert!(sources.iter().any(|source| source.path == Path::new(file!())), "the sources were found");
    sources
}

/// Blanks out comments and the contents of literals. Lines keep their numbers.
fn without_comments_and_literals(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        match blank_length(rest) {
            Some(length) => {
                let (blank, after) = rest.split_at(length);
                code.push(' ');
                code.extend(blank.chars().filter(|character| *character == '\n'));
                rest = after;
            }
            None => {
                code.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    code
}

/// The length of the comment or literal that a text begins with.
fn blank_length(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return Some(block_comment_length(text));
    }
    if text.starts_with('"') {
        return Some(quoted_length(text, '"'));
    }
    if let Some(after_r) = text.strip_prefix('r') {
        let hashes = after_r.len() - after_r.trim_start_matches('#').len();
        if let Some(content) = after_r[hashes..].strip_prefix('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let length = content.find(&end).map_or(content.len(), |at| at + end.len());
            return Some(text.len() - content.len() + length);
        }
    }
    // Anything else behind an apostrophe is a lifetime.
    let mut characters = text.strip_prefix('\'')?.chars();
    let is_literal = characters.next() == Some('\\') || characters.next() == Some('\'');
    is_literal.then(|| quoted_length(text, '\''))
}

fn block_comment_length(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The length of a literal with escapes, both of its quotes included.
fn quoted_length(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The words of an identifier or a file name, in lower case: `LoginLimiter` and `login_limiter` have two each.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut after_lower_case = false;
    for character in name.chars() {
        if !character.is_alphanumeric() || (after_lower_case && character.is_uppercase()) {
            words.push(String::new());
        }
        if character.is_alphanumeric() {
            words.last_mut().unwrap().extend(character.to_lowercase());
        }
        after_lower_case = character.is_lowercase();
    }
    words
}

/// Where a name has a private word, and what to say instead.
fn private_words(place: &str, name: &str) -> Vec<String> {
    let found = words(name).into_iter().filter_map(|word| {
        let (_, term) = PRIVATE_WORDS.iter().find(|(private, _)| private.contains(&word.as_str()))?;
        Some(format!("{place}: `{name}` has `{word}`; use \"{term}\""))
    });
    found.collect()
}

#[test]
fn identifiers_and_file_names_have_no_private_words() {
    let mut found = Vec::new();
    for Source { path, code } in sources() {
        let place = path.display().to_string();
        found.extend(private_words(&place, &place));
        for (index, line) in code.lines().enumerate() {
            let place = format!("{place}:{}", index + 1);
            let identifiers = line.split(|character: char| !character.is_alphanumeric() && character != '_');
            found.extend(identifiers.flat_map(|identifier| private_words(&place, identifier)));
        }
    }
    assert!(found.is_empty(), "{} private words:\n{}", found.len(), found.join("\n"));
}

#[test]
fn code_is_shared_through_crates() {
    let mut found = Vec::new();
    for Source { path, code } in sources() {
        for (index, line) in code.lines().enumerate() {
            let line: String = line.split_whitespace().collect();
            if line.contains("#[path") || line.contains("(dead_code") || line.contains(",dead_code") {
                found.push(format!("{}:{}: {line}", path.display(), index + 1));
            }
        }
    }
    assert!(found.is_empty(), "`#[path]` or `allow(dead_code)`:\n{}", found.join("\n"));
}

#[test]
fn comments_and_literals_are_blanked_out_and_nothing_else() {
    for (text, code) in [
        ("a // ask\nb", "a  \nb"),
        ("a /* ask /* ask */\n ask */ b", "a  \n b"),
        (r#"f("ask \" ask", c)"#, "f( , c)"),
        (r##"f(r#"ask " ask"#, c)"##, "f( , c)"),
        ("f(b\"ask\", br\"ask\", c)", "f(b , b , c)"),
        ("f::<'a>('\"', '\\'', 'é', c)", "f::<'a>( ,  ,  , c)"),
        ("r#type(for_r)", "r#type(for_r)"),
    ] {
        assert_eq!(without_comments_and_literals(text), code, "{text}");
    }
}

#[test]
fn names_are_split_into_words() {
    assert_eq!(words("LoginLimiter_v2"), ["login", "limiter", "v2"]);
    assert_eq!(words("MAX_PERMITS"), ["max", "permits"]);
    assert_eq!(private_words("here", "WriteLedger").len(), 1);
    assert!(private_words("here", "payload").is_empty());
}
