//! Records in which every field has a value.

use super::{AT, name};
use protocol::{
    Account, ApiVersion, Cooldown, CooldownReason, Endpoints, Extra, Fingerprint, Generation, GrantState,
    Holder, Lease, LoginLimiter, Mark, ObtainedBy, Origin, Pair, Permit, Predecessor, RefreshToken,
    RejectedSecret, Revocation, RevocationRetry, Secret, SecretVersion, Timestamp, TokenKind, Trial,
    UpstreamUrl, Usage, Verdict, Version,
};
use std::time::Duration;

fn origin() -> Origin {
    let url = |text| Some(UpstreamUrl::parse(text).unwrap());
    Origin::Convirza {
        api_version: ApiVersion::V2,
        oauth_url: url("https://oauth.example"),
        api_url: url("https://api.example"),
    }
}

fn oauth2_origin() -> Origin {
    let url = |text| UpstreamUrl::parse_endpoint(text).unwrap();
    Origin::OAuth2(Endpoints {
        token_url: url("https://oauth.example/token"),
        revoke_url: Some(url("https://oauth.example/revoke")),
        probe_url: Some(url("https://api.example/me")),
    })
}

/// An account with every attribute set.
pub(super) fn full_account() -> Account {
    Account {
        version: Version(u64::MAX),
        pair: Some(Pair {
            generation: Generation(7),
            access_token: Secret::from("access"),
            refresh_token: Some(RefreshToken {
                token: Secret::from("refresh"),
                expires_at: Some(AT.plus(Duration::from_secs(2))),
                consumed: true,
                earlier_life: Some(Duration::from_secs(26)),
            }),
            issued_at: AT,
            expires_at: AT.plus(Duration::from_secs(1)),
            obtained_by: ObtainedBy::Refresh,
            replaces: Some(Generation(6)),
            origin: origin(),
            secret_version: Some(SecretVersion("v0".to_owned())),
            verdict: Verdict::Dead,
            extra: Extra::parse(r#"{"instance_url":"https://x.example"}"#),
            refresh_ahead: Some(Duration::from_secs(25)),
        }),
        lease: Some(Lease { holder: Holder(u64::MAX), until: AT }),
        cooldown: Some(Cooldown { until: AT, reason: CooldownReason::BudgetExhausted, failures: u32::MAX }),
        rejected_secret: Some(RejectedSecret {
            version: SecretVersion("v1".to_owned()),
            refusals: 2,
            retry_at: Some(Timestamp::from_millis(7)),
        }),
        pending_revocations: vec![
            Revocation {
                token: Secret::from("old"),
                kind: TokenKind::Access,
                origin: origin(),
                expires_at: AT,
                retry: Some(RevocationRetry { at: AT, failures: u32::MAX }),
            },
            Revocation {
                token: Secret::from("older"),
                kind: TokenKind::Refresh,
                origin: Origin::default(),
                expires_at: AT,
                retry: Some(RevocationRetry { at: AT, failures: u32::MAX }),
            },
            Revocation {
                token: Secret::from("oldest"),
                kind: TokenKind::Refresh,
                origin: oauth2_origin(),
                expires_at: AT,
                retry: Some(RevocationRetry { at: AT, failures: u32::MAX }),
            },
        ],
        young_deaths: u32::MAX,
        replaced_at: Some(AT),
        early_refresh_after: Some(AT),
        grant: None,
    }
}

/// The state of a grant with every attribute set.
pub(super) fn full_grant() -> GrantState {
    GrantState {
        held: Usage {
            mark: Some(Mark { at: AT, settled_at: AT, by: Holder(3) }),
            lost: true,
            lost_under: vec![SecretVersion("v1".to_owned())],
        },
        trial: Some(Trial {
            token: Secret::from("bootstrap"),
            origin: Origin::default(),
            usage: Usage::default(),
        }),
        sent: vec![Fingerprint(u64::MAX)],
        predecessor: Some(Predecessor { token: Fingerprint(1), by: Holder(2) }),
        send_after: Some(AT),
        resend_within: Duration::from_secs(600),
    }
}

/// A limiter with every attribute set.
pub(super) fn full_limiter() -> LoginLimiter {
    let permits = [1, 2].map(|holder| Permit {
        account: name(),
        acquired_at: AT,
        counts_until: AT.plus(Duration::from_secs(60)),
        holder: Holder(holder),
    });
    let window = Duration::from_secs(600);
    LoginLimiter { version: Version(3), permits: permits.to_vec(), blocked_until: Some(AT), window }
}
