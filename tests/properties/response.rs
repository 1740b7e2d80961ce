//! Responses of the upstream: every body is parsed or refused, and an expiry is never in the past.

use crate::config;
use flate2::{Compression, bufread::GzEncoder};
use proptest::{collection::vec, option, prelude::*};
use protocol::{Expiry, NewRefreshToken, Secret, testing::strategies::instant};
use serde_json::{Value, json};
use std::{io::Read, time::Duration};
use token_broker::outbound::upstream::{
    body::Body,
    oauth_error::parse_error,
    response::{TokenBody, has_field, parse_expiry, parse_tokens},
};

/// Values that may stand where a token or an expiry is expected.
fn any_json() -> impl Strategy<Value = Value> {
    prop_oneof![
        3 => "[!-~]{0,12}".prop_map(Value::from),
        1 => ".{0,12}".prop_map(Value::from),
        2 => any::<i64>().prop_map(Value::from),
        2 => any::<f64>().prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
        1 => vec(any::<u8>(), 0..3).prop_map(Value::from),
        1 => "[a-z]{1,8}".prop_map(|name| json!({ name: true })),
    ]
}

/// A response as servers and proxies pack it: as it is, encoded twice, as a form, and each of these compressed.
fn packed(fields: &Value) -> Vec<Vec<u8>> {
    let mut form = form_urlencoded::Serializer::new(String::new());
    for (name, value) in fields.as_object().into_iter().flatten().filter(|(_, value)| !value.is_object()) {
        form.append_pair(name, &value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    }
    let text = fields.to_string();
    let plain = [text.clone(), Value::from(text).to_string(), form.finish()].map(String::into_bytes);
    plain.into_iter().flat_map(|body| [gzip(&body), body]).collect()
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    GzEncoder::new(body, Compression::default()).read_to_end(&mut packed).expect("a buffer");
    packed
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn tokens_are_parsed_as_they_were_sent(
        access in "[!-~]{1,40}", refresh in option::of("[!-~]{1,40}"),
        seconds in option::of(0..315_360_000_u32), other in ".{0,20}"
    ) {
        let mut fields = json!({ "access_token": access, "feToken": other, "user": { "name": other } });
        fields.as_object_mut().expect("an object").extend(
            refresh.iter().map(|token| ("refresh_token".to_owned(), json!(token)))
                .chain(seconds.map(|seconds| ("expires_in".to_owned(), json!(seconds))))
        );
        let refresh = refresh.map_or(NewRefreshToken::Absent, |token| NewRefreshToken::Token(Secret::new(token)));
        let expiry = seconds.map_or(Expiry::Unknown, |seconds| Expiry::In(Duration::from_secs(seconds.into())));
        for body in packed(&fields) {
            let TokenBody::Tokens(granted) = parse_tokens(&Body::new(&body, true), &[]) else {
                return Err(TestCaseError::fail(format!("no grant: {}", String::from_utf8_lossy(&body))));
            };
            prop_assert_eq!(granted.access_token.expose(), access.as_str());
            prop_assert_eq!(&granted.refresh_token, &refresh);
            prop_assert_eq!((granted.access_expiry, granted.refresh_expiry), (expiry, Expiry::Unknown));
        }
    }

    #[test]
    fn a_body_with_any_values_is_parsed_or_refused(
        access in any_json(), refresh in any_json(), expires in any_json(), refresh_expires in any_json(),
        sent_at in instant()
    ) {
        let body = json!({
            "access_token": access, "refresh_token": refresh,
            "expires_in": expires, "refresh_expires_in": refresh_expires, "result": expires
        });
        let body = Body::new(body.to_string().as_bytes(), true);
        let _ = has_field(&body, ("result", "error"));
        if let TokenBody::Tokens(granted) = parse_tokens(&body, &[]) {
            let around = |char: char| char.is_whitespace() || char.is_control();
            let trimmed = access.as_str().map(|text| text.trim_matches(around));
            prop_assert_eq!(Some(granted.access_token.expose()), trimmed);
            for expiry in [granted.access_expiry, granted.refresh_expiry] {
                prop_assert!(expiry.resolve(sent_at, Duration::MAX).is_none_or(|at| at > sent_at));
            }
        }
    }

    #[test]
    fn a_body_of_any_bytes_is_parsed_or_refused(
        mut body in vec(any::<u8>(), 0..200), start in prop::sample::select(vec![&b""[..], b"\x1f\x8b\x08", b"x\x9c", b"\"{\\"])
    ) {
        body.splice(0..0, start.iter().copied());
        let body = Body::new(&body, true);
        let _ = parse_tokens(&body, &[]);
        let _ = has_field(&body, ("result", "error"));
        let _ = parse_error(&body);
    }

    #[test]
    fn an_expiry_of_any_text_or_number_is_parsed_or_unknown(
        text in ".{0,40}", number in any::<f64>(), sent_at in instant()
    ) {
        for value in [json!(text), json!(number)] {
            prop_assert!(parse_expiry(&value).resolve(sent_at, Duration::MAX).is_none_or(|at| at > sent_at));
        }
    }
}
