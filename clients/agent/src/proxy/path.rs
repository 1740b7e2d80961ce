//! Which path of the API a request asks for. Pure.
//!
//! The configuration fixes the server, so no path leads to another one. These rules prevent a path from leaving the
//! configured base path, or from being read as a host by a lenient server.

use percent_encoding::percent_decode;

/// How often to decode; no server decodes more often.
const MOST_DECODINGS: usize = 4;

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PathError {
    /// It has a segment `.` or `..`, encoded or not.
    Dots,
    /// It begins with two slashes, or has a backslash or a control character.
    Malformed,
}

impl PathError {
    pub(crate) fn description(self) -> &'static str {
        match self {
            Self::Dots => "the path has a segment of dots",
            Self::Malformed => "the path begins with two slashes, or has a backslash or a control character",
        }
    }
}

/// The request target for the API. `rest` is undecoded, and is forwarded byte for byte.
pub(crate) fn target(base: &str, rest: &str, query: Option<&str>) -> Result<String, PathError> {
    check(rest)?;
    let path = match (base, rest) {
        ("", "") => "/",
        _ => rest,
    };
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    Ok(format!("{base}{path}{query}"))
}

/// Whether the path of a request is forwarded.
pub(crate) fn check(rest: &str) -> Result<(), PathError> {
    let mut path = rest.as_bytes().to_vec();
    for _ in 0..=MOST_DECODINGS {
        if path.starts_with(b"//") || path.iter().any(|byte| *byte == b'\\' || byte.is_ascii_control()) {
            return Err(PathError::Malformed);
        }
        if path.split(|byte| *byte == b'/').any(is_dots) {
            return Err(PathError::Dots);
        }
        let decoded: Vec<u8> = percent_decode(&path).collect();
        if decoded == path {
            return Ok(());
        }
        path = decoded;
    }
    Err(PathError::Malformed)
}

/// Some servers strip a segment's parameters before they check it for dots.
fn is_dots(segment: &[u8]) -> bool {
    let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
    name == b"." || name == b".."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_passed_on_byte_for_byte() {
        for (base, rest, query, expected) in [
            ("", "", None, "/"),
            ("", "/v3/calls", Some("a=b&c=%2F.."), "/v3/calls?a=b&c=%2F.."),
            ("/v3", "", None, "/v3"),
            ("/v3", "/calls/", None, "/v3/calls/"),
            ("", "/a%2Fb/c%20d/%E4%BD%A0", None, "/a%2Fb/c%20d/%E4%BD%A0"),
            ("", "/a//b", None, "/a//b"),
            ("", "/.well-known/...", None, "/.well-known/..."),
            ("", "/100%", None, "/100%"),
            ("", "/@example.com:80/", None, "/@example.com:80/"),
        ] {
            assert_eq!(target(base, rest, query).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn no_spelling_of_dots_leaves_the_base_path() {
        for rest in [
            "/..",
            "/../x",
            "/a/../../x",
            "/.",
            "/a/./b",
            "/%2e%2e/x",
            "/.%2E/x",
            "/a%2f..%2fx",
            "/%252e%252e/x",
            "/..;/x",
            "/..%3Bx/y",
            "/%25252e%25252e/",
        ] {
            assert_eq!(target("/v3", rest, None), Err(PathError::Dots), "{rest}");
        }
    }

    #[test]
    fn nothing_that_reads_as_a_host_is_passed_on() {
        for rest in [
            "//example.com/x",
            "/%2fexample.com",
            "/%2f%2fexample.com",
            "/\\example.com",
            "/%5cx",
            "/%0d%0aHost:x",
            "/%00",
        ] {
            assert_eq!(target("", rest, None), Err(PathError::Malformed), "{rest}");
        }
    }
}
