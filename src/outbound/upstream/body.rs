//! The body of a response: unpacks what servers and proxies put around an object, and reads its fields as far as they
//! arrived. Everything here may hold tokens, so it is wiped; buffers are reserved at once, because growing one would
//! leave copies of the tokens in freed memory.

use flate2::{Decompress, FlushDecompress, Status, bufread::GzDecoder};
use serde::{
    Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;
use std::{fmt, iter, str::Chars};
use zeroize::Zeroizing;

/// Far above the size of any documented response. Only this much of a longer one is read.
pub(super) const LONGEST_BODY_BYTES: usize = 1024 * 1024;
/// Limits the work on a text that consists of braces.
const MOST_OBJECTS: usize = 1000;
/// Limits the memory for objects that were encoded twice, each of which reserves as much as the rest of the text.
const MOST_ENCODED: usize = 16;
/// A proxy may compress what the server has compressed.
const MOST_LAYERS: usize = 2;

/// A body as text.
pub struct Body {
    /// The text itself, then the contents of its JSON strings, and the form that it is, as an object.
    texts: Vec<Zeroizing<String>>,
    /// Whether it is one JSON value or one form, to its end. Otherwise only a part is readable.
    pub(super) is_whole: bool,
}

/// The fields of an object, in their order.
pub(super) struct Fields<'a> {
    all: Vec<(String, &'a RawValue)>,
    /// Whether the object was read to its end.
    pub(super) complete: bool,
}

impl Body {
    /// Reads a body, compressed or not, of which all bytes arrived or only the first.
    pub fn new(bytes: &[u8], has_arrived: bool) -> Self {
        Self::unpack(bytes, has_arrived, MOST_LAYERS)
    }

    fn unpack(bytes: &[u8], has_arrived: bool, layers: usize) -> Self {
        match inflated(bytes).filter(|_| layers > 0) {
            Some((inner, has_ended)) => Self::unpack(&inner, has_arrived && has_ended, layers - 1),
            None => Self::read(bytes, has_arrived),
        }
    }

    /// Reads invalid UTF-8 as `?`, and control characters as blanks: JSON allows them only as white space between
    /// fields. Drops zero bytes, so that UTF-16 is readable as far as it is ASCII.
    fn read(bytes: &[u8], has_arrived: bool) -> Self {
        let marks = [b"\xff\xfe", b"\xfe\xff"];
        let bytes = marks.into_iter().find_map(|mark| bytes.strip_prefix(mark)).unwrap_or(bytes);
        let mut text = Zeroizing::new(String::with_capacity(bytes.len()));
        for chunk in bytes.utf8_chunks() {
            let chars = chunk.valid().chars().filter(|char| *char != '\0');
            text.extend(chars.map(|char| if char < ' ' { ' ' } else { char }));
            if !chunk.invalid().is_empty() {
                text.push('?');
            }
        }
        let trimmed = text.trim_start_matches('\u{feff}').trim();
        let is_json = serde_json::from_str::<IgnoredAny>(trimmed).is_ok();
        let (form, has_ended) = form(trimmed, has_arrived).unzip();
        let is_whole = is_json || has_ended.unwrap_or_default();
        let packed: Vec<_> = encoded_objects(&text).chain(form).collect();
        Self { texts: iter::once(text).chain(packed).collect(), is_whole }
    }

    /// The fields of the first objects that have any, including nested ones, each as far as it can be read.
    pub(super) fn objects(&self) -> impl Iterator<Item = Fields<'_>> {
        let objects = self.texts.iter().flat_map(|text| {
            let starts = text.match_indices('{').take(MOST_OBJECTS);
            starts.filter_map(|(start, _)| Some(Fields::read(text.get(start..)?)))
        });
        objects.filter(|fields| !fields.all.is_empty())
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

/// The contents of gzip or zlib, as far as they can be decompressed, and whether that is all. The first bytes tell,
/// because a header may be missing or wrong.
fn inflated(bytes: &[u8]) -> Option<(Zeroizing<Vec<u8>>, bool)> {
    let (deflated, is_zlib) = match bytes {
        [0x1f, 0x8b, ..] => {
            let gzip = GzDecoder::new(bytes);
            gzip.header()?;
            (gzip.into_inner(), false)
        }
        [0x78, ..] => (bytes, true),
        _ => return None,
    };
    let mut inflated = Zeroizing::new(Vec::with_capacity(LONGEST_BODY_BYTES));
    // `Finish` writes straight into this buffer. Otherwise a window, which is not wiped, would hold a copy.
    let status = Decompress::new(is_zlib).decompress_vec(deflated, &mut inflated, FlushDecompress::Finish);
    (!inflated.is_empty()).then_some((inflated, matches!(status, Ok(Status::StreamEnd))))
}

/// The contents of the JSON strings that hold an object, which was encoded twice.
fn encoded_objects(text: &str) -> impl Iterator<Item = Zeroizing<String>> {
    let objects = text.match_indices("\"{").filter_map(|(quote, _)| text.get(quote + 1..));
    objects.filter(|object| object.starts_with("{\\")).take(MOST_ENCODED).map(contents)
}

/// A JSON string up to its closing quote, without its escapes. A parser would refuse one whose end is missing.
fn contents(text: &str) -> Zeroizing<String> {
    let mut contents = Zeroizing::new(String::with_capacity(text.len()));
    let mut chars = text.chars();
    while let Some(char) = chars.next().filter(|char| *char != '"') {
        contents.push(if char == '\\' { unescaped(&mut chars) } else { char });
    }
    contents
}

fn unescaped(chars: &mut Chars<'_>) -> char {
    match chars.next() {
        Some('u') => {
            let code = chars.take(4).try_fold(0, |code, digit| Some(code * 16 + digit.to_digit(16)?));
            code.and_then(char::from_u32).unwrap_or('?')
        }
        Some('b' | 'f' | 'n' | 'r' | 't') | None => ' ',
        Some(char) => char,
    }
}

/// A form with an access token or an error, as an object, and whether its end is known. Otherwise the object has no
/// end. Something in angle brackets may follow. Names have no blanks, so no prose is a form.
fn form(text: &str, has_arrived: bool) -> Option<(Zeroizing<String>, bool)> {
    let form = text.split('<').next()?.trim_end();
    let fields = || form.split('&').filter(|field| !field.is_empty()).map(|field| field.split_once('='));
    let is_name =
        |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.[]".contains(&byte));
    let is_given = |name: &str| fields().flatten().any(|(other, value)| other == name && !value.is_empty());
    let is_form = fields().all(|field| field.is_some_and(|(name, _)| is_name(name)));
    if !is_form || !(is_given("access_token") || is_given("error")) {
        return None;
    }
    // A name of one byte becomes eight bytes.
    let mut object = Zeroizing::new(Vec::with_capacity(4 * form.len() + 8));
    for (name, value) in form_urlencoded::parse(form.as_bytes()) {
        let value = Zeroizing::new(value.into_owned());
        let before = if object.is_empty() { b'{' } else { b',' };
        object.push(before);
        serde_json::to_writer(&mut *object, &name).ok()?;
        object.push(b':');
        serde_json::to_writer(&mut *object, &*value).ok()?;
    }
    let has_ended = has_arrived && form == text;
    object.extend(has_ended.then_some(b'}'));
    let object = String::from_utf8(std::mem::take(&mut *object)).ok()?;
    Some((Zeroizing::new(object), has_ended))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbound::upstream::{
        oauth_error::{OAuthError, parse_error},
        response::{TokenBody, has_field, parse_tokens},
    };
    use flate2::{Compression, bufread};
    use protocol::{Expiry, NewRefreshToken, Secret, TokenResponse};
    use serde_json::json;
    use std::{io::Read, time::Duration};

    const PAIR: &str = r#"{"access_token":"a+/=","expires_in":3600,"refresh_token":"r\"&%\\"}"#;
    const FORM: &str =
        "access_token=a%2B%2F%3D&expires_in=3600&refresh_token=r%22%26%25%5C&token_type=bearer";

    fn gzip(body: impl AsRef<[u8]>) -> Vec<u8> {
        let mut packed = Vec::new();
        bufread::GzEncoder::new(body.as_ref(), Compression::default()).read_to_end(&mut packed).unwrap();
        packed
    }

    fn zlib(body: impl AsRef<[u8]>) -> Vec<u8> {
        let mut packed = Vec::new();
        bufread::ZlibEncoder::new(body.as_ref(), Compression::default()).read_to_end(&mut packed).unwrap();
        packed
    }

    fn encoded_twice(text: &str) -> String {
        json!(text).to_string()
    }

    fn parse(body: &[u8], has_arrived: bool) -> TokenBody {
        parse_tokens(&Body::new(body, has_arrived), &[])
    }

    fn granted(body: &[u8], has_arrived: bool) -> TokenResponse {
        match parse(body, has_arrived) {
            TokenBody::Tokens(granted) => granted,
            other => panic!("{other:?}: {}", String::from_utf8_lossy(body)),
        }
    }

    #[test]
    fn tokens_are_found_however_they_are_packed() {
        let pretty = PAIR.replace('{', "{\n  ").replace(',', ",\n  ");
        let packings = [
            PAIR.to_owned(),
            encoded_twice(PAIR),
            encoded_twice(&pretty),
            encoded_twice(PAIR).replace("\\\"", "\\u0022").replace('+', "\\u002b"),
            format!("\u{feff}{}\n", encoded_twice(PAIR)),
            format!("{{\"roles\":[{}{{}}],\"data\":{PAIR}}}", "{\"id\":1},".repeat(500)),
            json!({"statusCode": 200, "headers": "{\"etag\":\"1\"}", "body": PAIR}).to_string(),
            FORM.to_owned(),
            format!("\u{feff}\r\n{FORM}\r\n"),
            format!("&scope=read write&odd.name[]=&{FORM}&"),
            format!("{FORM}\n<!-- served by -->"),
        ];
        for text in packings {
            let utf_16: Vec<_> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
            let bytes = text.as_bytes();
            for body in [bytes, &utf_16, &gzip(bytes), &zlib(bytes), &gzip(gzip(bytes)), &gzip(&utf_16)] {
                let granted = granted(body, true);
                assert_eq!(granted.access_token, Secret::from("a+/="), "{text}");
                let refresh_token = NewRefreshToken::Token(Secret::from("r\"&%\\"));
                assert_eq!(granted.refresh_token, refresh_token, "{text}");
                assert_eq!(granted.access_expiry, Expiry::In(Duration::from_secs(3600)), "{text}");
            }
        }
    }

    #[test]
    fn a_part_of_a_packed_body_grants_what_it_holds() {
        let mix = |number: u32| number.wrapping_mul(0x9e37_79b9);
        let noise = (0..9000).map(mix).fold(String::new(), |text, word| format!("{text}{word:08x}"));
        let cut = |body: &[u8]| body[..body.len() / 2].to_vec();
        let long = PAIR.replace('}', &format!(r#","user":"{noise}"}}"#));
        let form = format!("{FORM}&user={noise}");
        let texts = [long.as_str(), &encoded_twice(&long), &form].map(|text| text.as_bytes().to_vec());
        for text in texts {
            for body in [cut(&text), cut(&gzip(&text)), cut(&zlib(&text)), gzip(cut(&text))] {
                let refresh_token = NewRefreshToken::Token(Secret::from("r\"&%\\"));
                assert_eq!(granted(&body, false).refresh_token, refresh_token);
            }
        }
        for (text, whole) in [
            ("access_token=a", NewRefreshToken::Absent),
            ("access_token=a<!-- served by -->", NewRefreshToken::Unusable),
            ("\"{\\\"access_token\\\":\\\"a\\\"}", NewRefreshToken::Absent),
            ("\"{\\\"access_token\\\":\\\"a\\\"", NewRefreshToken::Unusable),
            ("\"{\\\"access_token\\\":\\\"a\\\",\\\"b\\u00", NewRefreshToken::Unusable),
        ] {
            assert_eq!(granted(text.as_bytes(), true).refresh_token, whole, "{text}");
        }
        let alone = granted(b"access_token=a", false).refresh_token;
        assert_eq!(alone, NewRefreshToken::Unusable, "one may have been lost");
    }

    #[test]
    fn a_compressed_body_is_read_up_to_the_limit() {
        let blanks = " ".repeat(LONGEST_BODY_BYTES);
        let body = Body::new(&gzip(gzip(PAIR.replace('}', &format!("{blanks}}}")))), true);
        assert!(body.texts.iter().all(|text| text.len() <= LONGEST_BODY_BYTES));
        assert!(!body.is_whole);
        assert!(matches!(parse_tokens(&body, &[]), TokenBody::Tokens(_)));
    }

    #[test]
    fn only_a_whole_object_or_a_forms_error_holds_no_token() {
        for text in [
            "error=invalid_grant",
            "\u{feff}error_description=no+such+user&error=invalid_grant\r\n",
            "error=bad_verification_code&access_token=",
            "\"{\\\"error\\\":\\\"invalid_grant\\\"}\"",
            r#"{"error":"invalid_grant"}"#,
            r#"{"hint":"send access_token=abc"}"#,
        ] {
            let marked = format!("\u{feff}{}", text.trim_start_matches('\u{feff}'));
            let utf_16: Vec<_> = marked.encode_utf16().flat_map(u16::to_be_bytes).collect();
            for body in [text.as_bytes(), &utf_16, &gzip(text)] {
                assert_eq!(parse(body, true), TokenBody::NoToken, "{text}");
            }
            assert_eq!(parse(&gzip(text)[..gzip(text).len() - 12], true), TokenBody::Unreadable, "{text}");
        }
        assert_eq!(parse(b"error=invalid_grant", false), TokenBody::Unreadable, "the rest may follow");
        for text in [
            "",
            "OK",
            "eyJhbGciOi==",
            "token_type=bearer",
            "error=",
            "access_token=a+b",
            "error=x&access_token=a+b",
            "Usage: access_token=abc",
            "access_token=abc is required",
            "see /login?x=1&access_token=abc",
            "<a href=\"?error=x&access_token=abc\">",
            "<p>\nerror=x",
            "error=x<p>",
            "\"{\\\"access_token\\\":7}\"",
            r#"{"body":"{\"access_token\":7}"}"#,
            "\u{1f}\u{8b}",
            "x\u{1}",
        ] {
            for body in [text.as_bytes(), &gzip(text)] {
                assert_eq!(parse(body, true), TokenBody::Unreadable, "{text}");
            }
        }
    }

    #[test]
    fn a_refusal_is_read_however_it_is_packed() {
        let refusal = r#"{"error":"invalid_grant","result":"error"}"#;
        let form = "error=invalid_grant&result=error";
        let texts = [refusal, &encoded_twice(refusal), form, &format!("{{undefined}} {refusal}")];
        for text in texts {
            for bytes in [text.as_bytes(), &gzip(text)] {
                let body = Body::new(bytes, true);
                assert_eq!(parse_error(&body), Some(OAuthError::InvalidGrant), "{text}");
                assert!(has_field(&body, ("result", "error")), "{text}");
            }
        }
    }
}
