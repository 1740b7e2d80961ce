//! The pages, and the parts of Markdown that the tests read.

use std::{
    fs,
    path::{Path, PathBuf},
};

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the repository.
pub(crate) fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file below a folder with this extension.
pub(crate) fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy();
            if path.is_dir() && !name.starts_with('.') && name != "target" && name != "node_modules" {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                files.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    files.sort();
    files
}

pub(crate) struct Page {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// Every document of the repository.
pub(crate) fn pages() -> Vec<Page> {
    let pages: Vec<_> = files(".", "md").into_iter().map(|path| Page { text: read(&path), path }).collect();
    assert!(pages.iter().any(|page| page.path == Path::new("README.md")), "the pages were found");
    pages
}

pub(crate) fn page(path: &str) -> Page {
    Page { path: path.into(), text: read(path) }
}

/// A line of a fenced block, or of the text around them.
enum Line<'a> {
    Prose(&'a str),
    Code,
}

impl Page {
    fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        let mut in_code = false;
        self.text.lines().map(move |line| {
            let is_fence = line.trim_start().starts_with("```");
            in_code ^= is_fence;
            if in_code || is_fence { Line::Code } else { Line::Prose(line) }
        })
    }

    /// The lines outside fenced blocks.
    pub(crate) fn prose(&self) -> impl Iterator<Item = &str> {
        self.lines().filter_map(|line| if let Line::Prose(text) = line { Some(text) } else { None })
    }

    /// Words with a letter or a digit. Generated diagrams do not count.
    pub(crate) fn words(&self) -> usize {
        let written = match (self.text.split_once("<!-- generated"), self.text.split_once("end -->")) {
            (Some((before, _)), Some((_, after))) => format!("{before}{after}"),
            _ => self.text.clone(),
        };
        written.split_whitespace().filter(|word| word.chars().any(char::is_alphanumeric)).count()
    }

    /// The rows of each table, its heading first.
    pub(crate) fn tables(&self) -> Vec<Vec<Vec<String>>> {
        let mut tables = vec![Vec::new()];
        for line in self.prose() {
            if line.starts_with('|') {
                tables.last_mut().unwrap().push(cells(line));
            } else if !tables.last().unwrap().is_empty() {
                tables.push(Vec::new());
            }
        }
        tables.retain(|table| !table.is_empty());
        for table in &mut tables {
            table.retain(|row| !row.iter().all(|cell| cell.starts_with("---")));
        }
        tables
    }

    /// The targets of its links and pictures.
    pub(crate) fn links(&self) -> Vec<String> {
        let text: Vec<_> = self.prose().collect();
        let text = text.join("\n");
        text.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect()
    }

    pub(crate) fn anchors(&self) -> Vec<String> {
        let headings = self.prose().filter(|line| line.starts_with('#'));
        headings.map(|heading| anchor(heading.trim_start_matches('#').trim())).collect()
    }
}

fn cells(row: &str) -> Vec<String> {
    // A bar within backticks or behind a backslash does not end a cell.
    let mut cells = vec![String::new()];
    let mut in_code = false;
    let mut before = ' ';
    for character in row.trim().trim_matches('|').chars() {
        in_code ^= character == '`';
        if character == '|' && !in_code && before != '\\' {
            cells.push(String::new());
        } else {
            cells.last_mut().unwrap().push(character);
        }
        before = character;
    }
    cells.iter().map(|cell| cell.trim().to_owned()).collect()
}

/// The parts of a text in backticks.
pub(crate) fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The anchor that GitHub derives from a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|character| character.is_alphanumeric() || " -_".contains(*character));
    kept.map(|character| if character == ' ' { '-' } else { character.to_ascii_lowercase() }).collect()
}

/// A row of a table, by a name in backticks in its first column.
pub(crate) struct Row {
    pub(crate) page: PathBuf,
    pub(crate) name: String,
    /// The texts of the other columns.
    pub(crate) cells: Vec<String>,
}

/// The rows of all tables, on any page, whose first column has this heading.
pub(crate) fn rows(head: &str) -> Vec<Row> {
    let mut found = Vec::new();
    for page in pages() {
        for table in page.tables().into_iter().filter(|table| table[0][0] == head) {
            for row in &table[1..] {
                found.extend(quoted(&row[0]).into_iter().map(|name| Row {
                    page: page.path.clone(),
                    name,
                    cells: row[1..].to_vec(),
                }));
            }
        }
    }
    assert!(!found.is_empty(), "a table whose first column is \"{head}\"");
    found
}

#[test]
fn a_table_is_read() {
    let text = "## One\n| a | b |\n| --- | --- |\n| `x`, `y` | 1 \\| `2|3` |\n\n```\n| no | row |\n```\n## Two\n| c |\n";
    let page = Page { path: "x.md".into(), text: text.to_owned() };
    let tables = page.tables();
    assert_eq!(tables.len(), 2);
    assert_eq!(tables[0], [vec!["a", "b"], vec!["`x`, `y`", "1 \\| `2|3`"]]);
    assert_eq!(quoted(&tables[0][1][0]), ["x", "y"]);
    assert_eq!((page.anchors(), page.words()), (vec!["one".to_owned(), "two".to_owned()], 11));
    assert_eq!(anchor("What it's not: `a` b"), "what-its-not-a-b");
}
