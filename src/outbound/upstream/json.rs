//! Reads the fields of a JSON object from a partly malformed body.

use serde::{
    Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;
use std::fmt;
use zeroize::Zeroizing;

/// A body as text. The text may hold tokens, so it is wiped.
pub(super) struct Body {
    text: Zeroizing<String>,
    /// Whether the whole text is JSON. Otherwise only the part before the first error is readable.
    pub(super) is_json: bool,
}

/// Limits the work on a body that consists of braces.
const MOST_OBJECTS: usize = 16;

/// The fields of an object, in their order.
pub(super) struct Fields<'a> {
    all: Vec<(String, &'a RawValue)>,
    /// Whether the object was read to its end.
    pub(super) complete: bool,
}

impl Body {
    /// Reads invalid UTF-8 as `?`, and control characters as blanks: JSON allows them only as white space between
    /// fields. Drops zero bytes, so that UTF-16 is readable as far as it is ASCII.
    pub(super) fn new(bytes: &[u8]) -> Self {
        // Reserved at once: growing would leave copies of the tokens in freed memory.
        let mut text = Zeroizing::new(String::with_capacity(bytes.len()));
        for chunk in bytes.utf8_chunks() {
            let chars = chunk.valid().chars().filter(|char| *char != '\0');
            text.extend(chars.map(|char| if char < ' ' { ' ' } else { char }));
            if !chunk.invalid().is_empty() {
                text.push('?');
            }
        }
        let is_json = serde_json::from_str::<IgnoredAny>(text.trim_start_matches('\u{feff}')).is_ok();
        Self { text, is_json }
    }

    /// The fields of the first objects, including nested ones, each as far as it can be read.
    pub(super) fn objects(&self) -> impl Iterator<Item = Fields<'_>> {
        let starts = self.text.match_indices('{').take(MOST_OBJECTS);
        starts.filter_map(|(start, _)| Some(Fields::read(self.text.get(start..)?)))
    }
}

impl<'a> Fields<'a> {
    fn read(text: &'a str) -> Self {
        let mut all = Vec::new();
        let mut reader = serde_json::Deserializer::from_str(text);
        let complete = reader.deserialize_map(FieldsUntilError(&mut all)).is_ok();
        Self { all, complete }
    }

    /// The values of every field with this name.
    pub(super) fn named(&self, name: &str) -> impl DoubleEndedIterator<Item = &'a RawValue> {
        self.all.iter().filter(move |(other, _)| other == name).map(|(_, value)| *value)
    }
}

/// Keeps what was read before an error.
struct FieldsUntilError<'f, 'a>(&'f mut Vec<(String, &'a RawValue)>);

impl<'a> Visitor<'a> for FieldsUntilError<'_, 'a> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key()? {
            self.0.push((name, map.next_value()?));
        }
        Ok(())
    }
}
