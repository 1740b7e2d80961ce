use super::*;

const SESSION: &str = "arn:aws:sts::123456789012:assumed-role/billing/i-0abc";

fn rules(who: &str) -> Callers {
    Callers::Rules(vec![Rule {
        who: Who::parse(who).unwrap(),
        accounts: Scope::These(vec![AccountName::default()]),
        actions: Scope::These(vec![Action::Token]),
        audit: false,
    }])
}

fn may(callers: &Callers, caller: &Caller) -> bool {
    callers.allow(caller, Action::Token, Some(&AccountName::default()))
}

#[test]
fn a_session_counts_as_its_role() {
    let caller = Caller::from_arn(SESSION);
    for who in [
        "arn:aws:iam::123456789012:role/billing",
        "arn:aws:iam::123456789012:role/some/path/billing",
        "arn:aws:iam::123456789012:role/bil*",
        "arn:aws:iam::123456789012:*",
        SESSION,
    ] {
        assert!(may(&rules(who), &caller), "{who}");
    }
    for who in [
        "arn:aws:iam::123456789012:role/bill",
        "arn:aws:iam::210987654321:role/billing",
        "arn:aws-cn:iam::123456789012:role/billing",
        "arn:aws:iam::123456789012:user/billing",
        "direct",
        "anonymous",
    ] {
        assert!(!may(&rules(who), &caller), "{who}");
    }
}

#[test]
fn a_rule_may_name_the_alias_of_a_direct_invoke() {
    let live = Caller::Direct { alias: Some("live".to_owned()) };
    let plain = Caller::Direct { alias: None };
    assert!(may(&rules("direct"), &live) && may(&rules("direct"), &plain));
    assert!(may(&rules("direct:live"), &live) && !may(&rules("direct:live"), &plain));
    assert!(!may(&rules("direct:test"), &live));
}

#[test]
fn a_rule_allows_only_what_it_names() {
    let callers = rules("direct");
    let caller = Caller::Direct { alias: None };
    let other = AccountName::parse("emea").unwrap();
    assert!(!callers.allow(&caller, Action::Status, Some(&AccountName::default())));
    assert!(!callers.allow(&caller, Action::Token, Some(&other)));
    assert!(!callers.allow(&caller, Action::Token, None), "all accounts is more than one");
    assert!(callers.allow(&caller, Action::Maintain, None), "the schedule needs no rule");
    assert!(!callers.allow(&Caller::Anonymous, Action::Maintain, None));
}

#[test]
fn without_rules_iam_decides() {
    let iam = Caller::from_arn(SESSION);
    for action in Action::ALL {
        let direct = Callers::Unset.allow(&Caller::Direct { alias: None }, action, None);
        assert!(direct, "{action:?}");
        let http = Callers::Unset.allow(&iam, action, None);
        assert_eq!(http, matches!(action, Action::Token | Action::Status), "{action:?}");
        assert!(!Callers::Unset.allow(&Caller::Anonymous, action, None), "{action:?}");
    }
}

#[test]
fn a_rule_that_could_never_match_is_refused() {
    const HERE: &str = "arn:aws:iam::123456789012";
    for bad in [
        "",
        "*",
        "direct:",
        "direct:7",
        "direct:$LATEST",
        "direct:*",
        "role/x",
        "arn:aws:iam::123456789012:role/a*b",
        "arn:aws:iam::123456789012:role/path/x*",
        "arn:aws:iam::123456789012:role/",
        "arn:aws:iam::123456789012:role/path/",
        "arn:aws:sts::123456789012:role/path/x",
        "arn:aws:iam::123456789012:group/x",
        "arn:aws:iam::123456789012:group/*",
        "arn:aws:iam::123456789012:assumed-role/billing/x",
        "arn:aws:sts::123456789012:assumed-role/billing/*",
        "arn:aws:sts::123456789012:assumed-role/billing",
        "arn:aws:s3:::123456789012:role/x",
        "arn:aws:lambda::123456789012:role/x",
        "arn:aws:iam:eu-central-1:123456789012:role/x",
    ] {
        assert!(Who::parse(bad).is_err(), "{bad}");
    }
    for good in ["role/x", "role/path/x", "user/x", "user/path/*", "user/*", "root", "ro*", "*"] {
        assert!(Who::parse(&format!("{HERE}:{good}")).is_ok(), "{good}");
    }
    assert!(Who::parse("arn:aws-us-gov:sts::123456789012:federated-user/x").is_ok());
}

#[test]
fn an_arn_without_partition_or_account_is_refused() {
    for bad in [
        "arn:*",
        "arn:aws:*",
        "arn:aws:iam::*",
        "arn:aws:iam::12345678901*",
        "arn:aws:iam::1:role/x",
        "arn::iam::123456789012:role/x",
        "arn:other:iam::123456789012:role/x",
        "arn:aws:iam::123456789012*",
        "arn:aws:iam:::role/x",
    ] {
        assert!(Who::parse(bad).unwrap_err().contains("a partition and an account"), "{bad}");
    }
}

#[test]
fn an_audit_rule_counts_only_where_no_other_rule_allows() {
    let rule = |who: &str, actions: &[Action], audit| Rule {
        who: Who::parse(who).unwrap(),
        accounts: Scope::All,
        actions: Scope::These(actions.to_vec()),
        audit,
    };
    let callers = Callers::Rules(vec![
        rule("direct", &[Action::Token, Action::Refresh], true),
        rule("direct:live", &[Action::Token], false),
        rule("direct:live", &[Action::Refresh], true),
    ]);
    let says = |alias: Option<&str>, action| {
        callers.permission(&Caller::Direct { alias: alias.map(str::to_owned) }, action, None)
    };
    assert_eq!(says(Some("live"), Action::Token), Permission::Allowed);
    assert_eq!(says(None, Action::Token), Permission::Audited(1));
    assert_eq!(says(Some("live"), Action::Refresh), Permission::Audited(1), "the first of them");
    assert_eq!(says(Some("live"), Action::Revoke), Permission::Denied);
}

#[test]
fn actions_and_callers_have_their_documented_names() {
    let names = Action::ALL.map(Action::name);
    assert_eq!(names, ["token", "status", "refresh", "revoke", "unblock", "maintain"]);
    assert_eq!(names.map(Action::parse), Action::ALL.map(Some));
    assert_eq!(Action::parse("Token"), None);
    let direct = |alias: Option<&str>| Caller::Direct { alias: alias.map(str::to_owned) };
    let callers = [direct(None), direct(Some("live")), Caller::from_arn(SESSION), Caller::Anonymous];
    let logged = ["direct", "direct:live", "arn:aws:iam::123456789012:role/billing", "anonymous"];
    assert_eq!(callers.map(|caller| caller.to_string()), logged);
}

#[test]
fn only_an_sts_session_counts_as_a_role() {
    for arn in [
        "arn:aws:iam::1:assumed-role/billing/x",
        "arn:aws:sts::1:more:assumed-role/billing/x",
        "xarn:aws:sts::1:assumed-role/billing/x",
        "arn:aws:sts:eu-central-1:1:assumed-role/billing/x",
    ] {
        assert_eq!(Caller::from_arn(arn), Caller::Iam { arn: arn.to_owned() });
    }
}
