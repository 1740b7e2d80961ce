use super::*;
use serde_json::json;

fn parse(payload: &Value) -> Result<Call, String> {
    Call::from_json(payload.to_string().as_bytes(), None).map_err(|error| error.to_string())
}

fn text(json: &str) -> Result<Call, String> {
    Call::from_json(json.as_bytes(), None).map_err(|error| error.to_string())
}

fn query(text: &str, action: Action) -> Result<Call, String> {
    Call::from_parameters(&parameters(text.as_bytes()), action, Unknown::Refuse)
        .map_err(|error| error.to_string())
}

fn form(text: &str) -> Result<Call, CallError> {
    Call::from_form(&parameters(text.as_bytes()))
}

fn full() -> Call {
    Call {
        min_ttl: Some(Duration::from_secs(90)),
        rejected: Some(Generation(7)),
        client: ClientName::parse("team/billing:3@eu"),
        ..Call::new(Action::Token, AccountName::parse("emea"))
    }
}

#[test]
fn every_field_is_optional_and_null_is_absent() {
    let default = Ok(Call::new(Action::Token, None));
    assert_eq!(parse(&json!({})), default);
    let nulls: Map<_, _> =
        Field::ALL.map(|field| (field.name().to_owned(), Value::Null)).into_iter().collect();
    assert_eq!(parse(&Value::Object(nulls)), default);
    assert_eq!(query("", Action::Token), default);
    assert_eq!(form("grant_type=client_credentials").ok(), default.ok());
}

#[test]
fn what_is_written_is_read() {
    let confirmed = Call { confirm: true, ..Call::new(Action::Revoke, AccountName::parse("emea")) };
    for call in [full(), confirmed, Call::new(Action::Status, None), Call::new(Action::Maintain, None)] {
        assert_eq!(Call::from_json(&call.to_json(true), None), Ok(call.clone()));
        assert_eq!(Call::from_json(&call.to_json(false), Some(call.action)), Ok(call.clone()));
    }
    assert_eq!(Call::new(Action::Token, None).to_json(true), br#"{"action":"token"}"#);
    assert_eq!(Call::new(Action::Token, None).to_query(), "");
    assert_eq!(query(full().to_query().strip_prefix('?').unwrap(), Action::Token), Ok(full()));
}

#[test]
fn a_whole_number_may_be_written_as_libraries_do() {
    let generation = |number: &str| text(&format!(r#"{{"rejected_generation":{number}}}"#));
    for (number, whole) in [
        ("60", 60),
        ("60.0", 60),
        ("6e1", 60),
        ("-0.0", 0),
        ("1.795961711152E12", 1_795_961_711_152),
        ("18446744073709551615", u64::MAX),
    ] {
        assert_eq!(generation(number).unwrap().rejected, Some(Generation(whole)), "{number}");
    }
    for number in ["60.5", "-1", "-1.0", "1e300", "9007199254740993.0", "\"60\"", "true", "[60]", "{}"] {
        assert_eq!(generation(number), Err("`rejected_generation` must be a whole number".to_owned()));
    }
    assert!(generation("1e400").unwrap_err().contains("number that is out of range"));
}

#[test]
fn an_error_names_the_field_and_never_its_value() {
    for (payload, field) in [
        (json!({"acount": "tell-tale"}), "unknown field `acount`"),
        (json!({"acount": null}), "unknown field `acount`"),
        (json!({"action": "tell-tale"}), "`action`"),
        (json!({"action": 7}), "`action`"),
        (json!({"account": "Tell-Tale"}), "`account`"),
        (json!({"min_ttl_seconds": "tell-tale"}), "`min_ttl_seconds`"),
        (json!({"client": "tell tale"}), "`client`"),
        (json!({"client": "x".repeat(65)}), "`client`"),
        (json!({"client": ""}), "`client`"),
        (json!({"action": "status", "min_ttl_seconds": 1}), "`min_ttl_seconds` does not belong"),
        (json!({"action": "maintain", "account": "tell-tale"}), "`account` does not belong"),
        (json!({"action": "refresh", "confirm": true}), "`confirm` does not belong"),
        (json!({"action": "revoke", "confirm": "true"}), "`confirm`"),
        (json!("tell-tale"), "JSON object"),
        (json!(null), "JSON object"),
    ] {
        let error = parse(&payload).unwrap_err();
        assert!(error.contains(field) && !error.to_lowercase().contains("tell"), "{error}");
    }
    assert!(parse(&json!({"a \n b": 1})).unwrap_err().contains("unprintable"));
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(999), "]".repeat(999));
    assert!(text(&deep).unwrap_err().contains("nested too deeply"));
    assert_eq!(
        parse(&json!({"x": 1})).unwrap_err(),
        "unknown field `x`; the fields are `action`, `account`, `min_ttl_seconds`, `rejected_generation`, `client` \
         and `confirm`"
    );
}

#[test]
fn a_route_decides_the_action() {
    let on = |route, payload: Value| Call::from_json(payload.to_string().as_bytes(), Some(route));
    assert_eq!(on(Action::Refresh, json!({})), Ok(Call::new(Action::Refresh, None)));
    assert_eq!(on(Action::Refresh, json!({"action": "refresh"})), Ok(Call::new(Action::Refresh, None)));
    let other = on(Action::Refresh, json!({"action": "revoke"})).unwrap_err();
    assert_eq!(other.to_string(), "`action` must be refresh here");
}

#[test]
fn the_raw_value_of_serde_json_is_not_interpreted() {
    for raw in [
        r#"{"$serde_json::private::RawValue":"{\"action\":\"token\"}"}"#,
        r#"{"\u0024serde_json::private::RawValue":"{}"}"#,
    ] {
        assert!(text(raw).unwrap_err().contains("unprintable"));
    }
}

#[test]
fn a_query_refuses_what_it_does_not_know() {
    for (text, error) in [
        ("acount=tell-tale", "unknown parameter `acount`; the parameters are `account` and `client`"),
        ("action=tell-tale", "unknown parameter `action`"),
        ("confirm=tell-tale", "unknown parameter `confirm`"),
        ("min_ttl_seconds=5", "`min_ttl_seconds` does not belong to the action status"),
        ("account=Tell-Tale", "`account` must be"),
        ("account=", "`account` must be"),
        ("account=a&account=b", "`account` is given twice"),
    ] {
        let found = query(text, Action::Status).unwrap_err();
        assert!(found.contains(error) && !found.to_lowercase().contains("tell"), "{found}");
    }
    for wrong in ["min_ttl_seconds=-1", "min_ttl_seconds=60.0", "rejected_generation=7e0"] {
        assert!(query(wrong, Action::Token).unwrap_err().contains("whole number"), "{wrong}");
    }
}

#[test]
fn a_form_ignores_what_it_does_not_know() {
    let known = form("grant_type=client_credentials&scope=x&scope=y&action=revoke&confirm=x&account=emea");
    assert_eq!(known, Ok(Call::new(Action::Token, AccountName::parse("emea"))));
    let omitted = form("grant_type=client_credentials&account=&min_ttl_seconds=");
    assert_eq!(omitted, Ok(Call::new(Action::Token, None)), "RFC 6749 §3.2: without a value, it is absent");
    assert!(form("grant_type=client_credentials&account=a&account=a").is_err());
    for (text, code) in [
        ("", "invalid_request"),
        ("grant_type=", "invalid_request"),
        ("grant_type=client_credentials&grant_type=client_credentials", "invalid_request"),
        ("grant_type=password", "unsupported_grant_type"),
    ] {
        assert_eq!(form(text).unwrap_err().code().as_str(), code, "{text}");
    }
}

#[test]
fn a_call_is_about_one_account_or_all() {
    let emea = AccountName::parse("emea");
    for action in Action::ALL {
        let subject = |account| Call::new(action, account).subject();
        let of_none = (!matches!(action, Action::Status | Action::Maintain)).then(AccountName::default);
        assert_eq!(subject(None), of_none, "{action:?}");
        let named = if action == Action::Maintain { None } else { emea.clone() };
        assert_eq!(subject(emea.clone()), named, "{action:?}");
    }
}
