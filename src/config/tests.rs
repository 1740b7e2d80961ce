//! Which settings are accepted, and how errors describe the others.

use super::*;
use std::cell::RefCell;

fn config(variables: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    Config::from_environment(|name| {
        variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
    })
}

fn wrong(variables: &[(&str, &str)]) -> Vec<&'static str> {
    let variables: Vec<_> = variables.iter().copied().chain([("BROKER_TABLE", "t")]).collect();
    config(&variables)
        .map_or_else(|errors| errors.all().iter().map(|error| error.variable).collect(), |_| vec![])
}

#[test]
fn only_the_table_is_required() {
    let config = config(&[("BROKER_TABLE", "t")]).unwrap();
    assert_eq!(config.policy, Policy::DEFAULT);
    assert_eq!(config.oauth_url.as_str(), "https://platform-oauth.convirza.com");
    assert_eq!(config.api_url.as_str(), "https://platform-api.convirza.com/v3");
    assert_eq!(config.secret_prefix, "token-broker/");
    assert_eq!(config.callers, Callers::Unset);
}

#[test]
fn a_number_has_bounds() {
    for (variable, least, most) in [
        ("BROKER_LOGIN_BUDGET", 1, 10),
        ("BROKER_REFRESH_AHEAD_SECONDS", 0, 180 * 86_400),
        ("BROKER_MAX_TTL_SECONDS", 1, 7 * 86_400),
        ("BROKER_MEMORY_TTL_SECONDS", 0, 3600),
        ("BROKER_UPSTREAM_TIMEOUT_MS", 100, 6_499),
        ("BROKER_LEASE_MS", 12_001, 600_000),
        ("BROKER_CLOCK_MARGIN_MS", 0, 4_999),
    ] {
        let is_wrong = |value: i64| !wrong(&[(variable, &value.to_string())]).is_empty();
        assert!(!is_wrong(least) && !is_wrong(most), "{variable}");
        assert!(is_wrong(least - 1) && is_wrong(most + 1), "{variable}");
    }
    let slow = |timeout: &str, lease| {
        [("BROKER_UPSTREAM_TIMEOUT_MS", timeout.to_owned()), ("BROKER_LEASE_MS", lease)]
    };
    let wrong =
        |[(one, timeout), (other, lease)]: [(&str, String); 2]| wrong(&[(one, &timeout), (other, &lease)]);
    assert!(wrong(slow("25000", "52001".to_owned())).is_empty());
    assert_eq!(wrong(slow("25001", "600000".to_owned())), ["BROKER_UPSTREAM_TIMEOUT_MS"]);
}

#[test]
fn the_table_has_a_name_or_an_arn() {
    for (name, is_valid) in [
        ("my-Table_2.x", true),
        ("arn:aws:dynamodb:eu-west-1:123456789012:table/t", true),
        (" ", false),
        ("t\n", false),
        ("my table", false),
        ("tä", false),
    ] {
        assert_eq!(config(&[("BROKER_TABLE", name)]).is_ok(), is_valid, "{name:?}");
    }
}

#[test]
fn the_revoke_field_is_a_plain_name() {
    let field = |name: &str| wrong(&[("BROKER_REVOKE_FIELD", name)]).is_empty();
    assert!(field("token") && field("access_token2") && field(&"x".repeat(64)));
    for bad in ["token_type", "a b", "a-b", "a\"b", "ä", &"x".repeat(65)] {
        assert!(!field(bad), "{bad}");
    }
    let config = config(&[("BROKER_TABLE", "t"), ("BROKER_REVOKE_FIELD", "access_token")]).unwrap();
    assert_eq!(config.revoke_field, "access_token");
}

#[test]
fn all_errors_are_reported_together() {
    let errors = config(&[
        ("BROKER_LOGIN_BUDGET", "11"),
        ("BROKER_MAX_TTL_SECONDS", "soon"),
        ("BROKER_LEASE_MS", "10000"),
        ("BROKER_OAUTH_URL", "http://platform-oauth.convirza.com"),
        ("BROKER_API_URL", "tell-tale"),
        ("BROKER_CALLERS", "{}"),
        ("BROKER_LOG", "hyper=trace"),
    ])
    .unwrap_err();
    let text = errors.to_string();
    for variable in [
        "BROKER_LOGIN_BUDGET",
        "BROKER_MAX_TTL_SECONDS",
        "BROKER_LEASE_MS",
        "BROKER_OAUTH_URL",
        "BROKER_API_URL",
        "BROKER_CALLERS",
        "BROKER_LOG",
        "BROKER_TABLE",
    ] {
        assert!(text.contains(variable), "{variable} is missing in {text}");
    }
    assert_eq!(errors.all().len(), 8, "{text}");
    assert!(!text.contains("tell-tale"), "{text}");
}

#[test]
fn a_wrong_rule_is_reported_by_its_number() {
    let none = Aliases::default();
    let read = parse_callers(r#"[{"caller":"direct","accounts":["*"],"actions":["token","status"]}]"#, &none)
        .unwrap();
    assert!(matches!(read, Callers::Rules(rules) if rules.len() == 1));
    assert_eq!(wrong(&[("BROKER_CALLERS", r#"[{"caller":"direct","accounts":["*"]}]"#)]), ["BROKER_CALLERS"]);
    let second = r#"[{"caller":"direct","accounts":["*"],"actions":["*"]},{"caller":"direct","accounts":["A"],"actions":["*"]}]"#;
    assert!(parse_callers(second, &none).unwrap_err().starts_with("rule 2: `accounts`"));
    assert_eq!(parse_callers("[]", &none).unwrap(), Callers::Rules(vec![]), "no caller may do anything");
}

#[test]
fn a_rule_that_never_allows_anything_is_refused() {
    let rule = |caller: &str, accounts: &str, actions: &str| {
        format!(r#"[{{"caller":"{caller}","accounts":{accounts},"actions":{actions}}}]"#)
    };
    for (rule, refused) in [
        (rule("direct", "[]", r#"["*"]"#), true),
        (rule("direct", r#"["*"]"#, "[]"), true),
        (rule("direct:http", r#"["*"]"#, r#"["*"]"#), true),
        (rule("direct:live", r#"["*"]"#, r#"["*"]"#), false),
    ] {
        let errors = wrong(&[("BROKER_HTTP_ALIAS", "http"), ("BROKER_CALLERS", &rule)]);
        assert_eq!(!errors.is_empty(), refused, "{rule}");
    }
}

#[test]
fn the_ways_in_are_two_aliases() {
    let aliases = |http: &str, schedule: &str| {
        wrong(&[("BROKER_HTTP_ALIAS", http), ("BROKER_SCHEDULE_ALIAS", schedule)])
    };
    assert!(aliases("http", "schedule").is_empty());
    assert_eq!(aliases("same", "same"), ["BROKER_SCHEDULE_ALIAS"]);
    assert_eq!(aliases("12", "$LATEST"), ["BROKER_HTTP_ALIAS", "BROKER_SCHEDULE_ALIAS"]);
}

#[test]
fn a_further_host_is_a_name_and_maybe_a_port() {
    let hosts = |text: &str| wrong(&[("BROKER_UPSTREAM_HOSTS", text)]).is_empty();
    assert!(hosts("") && hosts("x.example") && hosts("x.example, Y.example:8443 ,[::1]:1,"));
    for bad in ["https://x.example", "x.example/path", "user@x.example", "x example", "x.example:443", "*"] {
        assert!(!hosts(bad), "{bad}");
    }
}

#[test]
fn a_login_limit_names_a_host_and_its_numbers() {
    let limits = |text: &str| wrong(&[("BROKER_LOGIN_LIMITS", text)]).is_empty();
    let all = r#"{"accounts.zoho.com":{"requests":10,"seconds":600,"counts":"all","per":"account"}}"#;
    assert!(limits("") && limits("{}") && limits(all));
    assert!(limits(
        r#"{"X.example:8443":{"requests":100,"seconds":3600},"[::1]:1":{"requests":1,"seconds":1}}"#
    ));
    for bad in [
        "[]",
        r#"{"https://x.example":{"requests":1,"seconds":1}}"#,
        r#"{"x.example":{"requests":0,"seconds":1}}"#,
        r#"{"x.example":{"requests":101,"seconds":1}}"#,
        r#"{"x.example":{"requests":1,"seconds":0}}"#,
        r#"{"x.example":{"requests":1,"seconds":3601}}"#,
        r#"{"x.example":{"requests":1}}"#,
        r#"{"x.example":{"requests":1,"seconds":1,"counts":"refreshes"}}"#,
        r#"{"x.example":{"requests":1,"seconds":1,"per":"user"}}"#,
        r#"{"x.example":{"requests":1,"seconds":1,"burst":1}}"#,
        r#"{"x.example":{"requests":1,"seconds":1},"X.example":{"requests":9,"seconds":1}}"#,
    ] {
        assert!(!limits(bad), "{bad}");
    }
}

#[test]
fn the_default_account_is_prefetched_if_no_list_is_given() {
    let prefetched = |value: Option<&str>| {
        let variables = value.map(|value| ("BROKER_PREFETCH", value));
        let variables: Vec<_> = variables.into_iter().chain([("BROKER_TABLE", "t")]).collect();
        let names = config(&variables).ok()?.prefetch;
        Some(names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    };
    assert_eq!(prefetched(None).as_deref(), Some("default"));
    assert_eq!(prefetched(Some("")).as_deref(), Some(""));
    assert_eq!(prefetched(Some("emea, apac,")).as_deref(), Some("emea apac"));
    assert_eq!(prefetched(Some("emea,EMEA")), None);
}

#[test]
fn the_log_filter_reaches_the_brokers_own_code_only() {
    for good in ["off", "debug", "info,token_broker::broker=trace"] {
        assert!(parse_log(good).is_some(), "{good}");
    }
    for bad in ["loud", "hyper=trace", "aws_smithy_runtime=debug,info", "token_brokers=info", "3"] {
        assert!(parse_log(bad).is_none(), "{bad}");
    }
    let targets = parse_log("trace").unwrap();
    assert!(!targets.would_enable("hyper", &tracing::Level::ERROR));
    assert!(targets.would_enable("token_broker::broker", &tracing::Level::TRACE));
}

#[test]
fn a_variable_that_nothing_reads_is_unknown() {
    let names = ["BROKER_TABLE", "BROKER_LEASE_MS", "BROKER_LOGIN_BUGDET", "BROKER_", "AWS_REGION", "PATH"];
    let read = RefCell::new(Vec::new());
    let _errors = Config::from_environment(|name| {
        read.borrow_mut().push(name);
        None
    });
    let unknown = unknown_variables(names.into_iter().map(str::to_owned), &read.into_inner());
    assert_eq!(unknown, ["BROKER_LOGIN_BUGDET", "BROKER_"]);
}
