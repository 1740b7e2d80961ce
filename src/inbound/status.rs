//! The status answer: everything except tokens.

use crate::ports::Listed;
use contract::rfc3339;
use protocol::{
    Account, AccountName, Budget, Failure, GrantHealth, LoginLimiter, ObtainedBy, Policy, Read, Timestamp,
    Verdict,
};
use serde_json::{Value, json};

/// The status of the accounts and of the login rate limiter, as the contract has it.
pub(super) fn answer(
    records: &[Listed],
    limiter: &Read<LoginLimiter>,
    policy: &Policy,
    budget: Budget,
    now: Timestamp,
) -> Value {
    let accounts = records.iter().map(|(name, record)| match record {
        Ok(account) => account_status(name, account, policy, now),
        Err(error) => json!({"account": name.as_str(), "unreadable": error.to_string()}),
    });
    json!({
        "now": rfc3339::format(now),
        "accounts": accounts.collect::<Vec<_>>(),
        "login_limiter": match limiter {
            Ok(limiter) => limiter_status(limiter, budget, now),
            Err(error) => json!({"unreadable": error.to_string()}),
        },
    })
}

fn account_status(name: &AccountName, account: &Account, policy: &Policy, now: Timestamp) -> Value {
    let pair = account.pair.as_ref();
    let refresh_token = pair.and_then(|pair| pair.refresh_token.as_ref());
    let refresh_expires_at = refresh_token.and_then(|refresh_token| refresh_token.expires_at);
    let consumed = refresh_token.is_some_and(|refresh_token| refresh_token.consumed);
    let verified_at = pair.and_then(|pair| match pair.verdict {
        Verdict::Alive { at } => Some(at),
        Verdict::Unverified | Verdict::Inconclusive { .. } | Verdict::Dead => None,
    });
    let mut status = json!({
        "account": name.as_str(),
        "generation": pair.map(|pair| pair.generation.0),
        "obtained_by": pair.map(|pair| match pair.obtained_by {
            ObtainedBy::Login => "login",
            ObtainedBy::Refresh => "refresh",
        }),
        "issued_at": pair.map(|pair| rfc3339::format(pair.issued_at)),
        "due_at": pair.map(|pair| rfc3339::format(policy.due_at(name, pair))),
        "expires_at": pair.map(|pair| rfc3339::format(pair.expires_at)),
        "refresh_expires_at": refresh_expires_at.map(rfc3339::format),
        "secret_version": pair.and_then(|pair| Some(pair.secret_version.as_ref()?.0.as_str())),
        "refresh_token_consumed": pair.map(|_| consumed),
        "verdict": pair.map(|pair| match pair.verdict {
            Verdict::Unverified => "unverified",
            Verdict::Alive { .. } => "alive",
            Verdict::Inconclusive { .. } => "inconclusive",
            Verdict::Dead => "dead",
        }),
        "verified_at": verified_at.map(rfc3339::format),
        "pending_revocations": account.pending_revocations.len(),
        "lease_until": account.active_lease(now).map(|lease| rfc3339::format(lease.until)),
        "cooldown": account.active_cooldown(now).map(|cooldown| json!({
            "until": rfc3339::format(cooldown.until),
            "reason": Failure::cooling_down(cooldown, now).code().as_str(),
        })),
        "failures_in_a_row": account.failures(),
        "young_deaths": account.young_deaths,
        "rejected_secret_version": account.rejected_secret.as_ref().map(|rejected| rejected.version.0.as_str()),
    });
    if let (Some(grant), Some(fields)) = (&account.grant, status.as_object_mut()) {
        let health = match grant.health() {
            GrantHealth::Sound => "sound",
            GrantHealth::InDoubt => "in_doubt",
            GrantHealth::Lost => "lost",
        };
        fields.insert("grant".to_owned(), health.into());
    }
    status
}

fn limiter_status(limiter: &LoginLimiter, budget: Budget, now: Timestamp) -> Value {
    let delay = limiter.delay(budget, now);
    json!({
        "permits": limiter.counting(now).count(),
        "login_budget": budget.requests,
        "next_login_at": delay.map(|delay| rfc3339::format(delay.ends().0)),
        "delayed_by": delay.map(|delay| Failure::delayed(delay, now).code().as_str()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{
        Cooldown, CooldownReason, Holder, Lease, Pair, Permit, RefreshToken, RejectedSecret, Secret,
        SecretVersion, StoreError, Version, testing,
    };
    use std::time::Duration;

    const NOW: Timestamp = Timestamp::from_millis(1_775_478_896_000);
    const POLICY: Policy = Policy::DEFAULT;

    fn later(seconds: u64) -> Timestamp {
        NOW.plus(Duration::from_secs(seconds))
    }

    fn pair(verdict: Verdict) -> Pair {
        Pair {
            access_token: Secret::from("tell-tale"),
            refresh_token: Some(RefreshToken {
                expires_at: Some(later(7200)),
                consumed: true,
                ..testing::refresh_token("tell-tale")
            }),
            issued_at: NOW,
            obtained_by: ObtainedBy::Refresh,
            secret_version: Some(SecretVersion("v0".to_owned())),
            verdict,
            ..testing::pair(later(3600))
        }
    }

    fn of(account: Account) -> Value {
        let records = [(AccountName::default(), Ok(account))];
        let mut answer = answer(&records, &Ok(LoginLimiter::default()), &POLICY, (&POLICY).into(), NOW);
        answer["accounts"][0].take()
    }

    #[test]
    fn an_account_is_described_without_its_tokens() {
        let status = of(Account {
            version: Version(8),
            pair: Some(pair(Verdict::Alive { at: NOW })),
            lease: Some(Lease { holder: Holder(1), until: later(15) }),
            cooldown: Some(Cooldown { until: later(60), reason: CooldownReason::RateLimited, failures: 2 }),
            rejected_secret: Some(RejectedSecret {
                version: SecretVersion("v1".to_owned()),
                refusals: 1,
                retry_at: None,
            }),
            pending_revocations: pair(Verdict::Dead).revocations().collect(),
            young_deaths: 3,
            ..Account::default()
        });
        let due_at = status["due_at"].clone();
        assert_eq!(
            status,
            json!({
                "account": "default",
                "generation": 7,
                "obtained_by": "refresh",
                "issued_at": "2026-04-06T12:34:56Z",
                "due_at": due_at,
                "expires_at": "2026-04-06T13:34:56Z",
                "refresh_expires_at": "2026-04-06T14:34:56Z",
                "secret_version": "v0",
                "refresh_token_consumed": true,
                "verdict": "alive",
                "verified_at": "2026-04-06T12:34:56Z",
                "pending_revocations": 2,
                "lease_until": "2026-04-06T12:35:11Z",
                "cooldown": {"until": "2026-04-06T12:35:56Z", "reason": "upstream_rate_limited"},
                "failures_in_a_row": 2,
                "young_deaths": 3,
                "rejected_secret_version": "v1",
            })
        );
        assert!(due_at.as_str().unwrap().starts_with("2026-04-06T13:"), "{due_at}");
    }

    #[test]
    fn an_empty_record_has_the_same_fields() {
        let (empty, full) =
            (of(Account::default()), of(Account { pair: Some(pair(Verdict::Dead)), ..Account::default() }));
        let names = |status: &Value| status.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&empty), names(&full));
        assert_eq!((&full["verdict"], &full["verified_at"]), (&json!("dead"), &Value::Null));
        assert_eq!((&empty["verdict"], &empty["failures_in_a_row"]), (&Value::Null, &json!(0)));
    }

    #[test]
    fn an_unreadable_record_is_reported() {
        let records =
            [(AccountName::default(), Err(StoreError::Unreadable("attribute `pair` is missing".to_owned())))];
        let answer = answer(&records, &Ok(LoginLimiter::default()), &POLICY, (&POLICY).into(), NOW);
        assert_eq!(
            answer["accounts"],
            json!([{"account": "default", "unreadable": "attribute `pair` is missing"}])
        );
    }

    #[test]
    fn the_limiter_says_when_and_why_a_login_is_delayed() {
        let of = |limiter: &LoginLimiter| {
            answer(&[], &Ok(limiter.clone()), &POLICY, (&POLICY).into(), NOW)["login_limiter"].clone()
        };
        let mut limiter = LoginLimiter::default();
        let free = json!({"permits": 0, "login_budget": 5, "next_login_at": null, "delayed_by": null});
        assert_eq!(of(&limiter), free);
        limiter.permits = vec![
            Permit {
                account: AccountName::default(),
                acquired_at: NOW,
                counts_until: later(74),
                holder: Holder(1)
            };
            5
        ];
        let exhausted = of(&limiter);
        assert_eq!(
            (&exhausted["permits"], &exhausted["delayed_by"]),
            (&json!(5), &json!("login_budget_exhausted"))
        );
        assert_eq!(exhausted["next_login_at"], "2026-04-06T12:36:10Z");
        limiter.blocked_until = Some(later(600));
        let blocked = of(&limiter);
        assert_eq!(blocked["delayed_by"], "upstream_rate_limited");
        assert_eq!(blocked["next_login_at"], "2026-04-06T12:44:56Z");
    }
}
