//! One situation of the walk: a flow in the middle of its work, and the events that may come next.

use super::*;
use crate::OperatorTarget;
use std::hash::{DefaultHasher, Hash, Hasher};

/// A flow in the middle of its work, and what it last wrote.
#[derive(Clone)]
pub(super) struct Visit {
    pub(super) flow: Flow,
    pub(super) pending: Effect,
    pub(super) now: Timestamp,
    pub(super) written: Option<Account>,
    pub(super) limiter: LoginLimiter,
}

impl Visit {
    /// Everything that the rest of the walk depends on. Two visits with the same key are not walked twice.
    pub(super) fn key(&self) -> u64 {
        let flow = &self.flow;
        let cx = cx(self.now, Draw(1));
        let deadline = flow.request.ends(cx);
        let left = [1_300, 6_000, 12_000].map(|ms| self.now.plus(Duration::from_millis(ms)) > deadline);
        let account = flow.account(cx);
        let pair = account.pair.as_ref();
        let kind = pair.map(|pair| {
            let refresh = pair.refresh_token.as_ref().map(|refresh| refresh.consumed);
            let verdict = std::mem::discriminant(&pair.verdict);
            (refresh, verdict, POLICY.usable(pair, Duration::from_secs(60), self.now))
        });
        let (detail, lease) = match &flow.state {
            State::Writing(write) | State::ReadingBack(write) | State::BackingOff(write) => {
                let lease = match write {
                    Attempt::Permit(attempt) => Some(attempt.held.lease),
                    Attempt::Block(attempt) => Some(attempt.held.lease),
                    Attempt::Mark(attempt) => Some(attempt.held.lease),
                    Attempt::Lease(_) | Attempt::Save(_) => None,
                };
                let tries = write.tries();
                (format!("{} {}", tries.min(1) + tries / 7, write.detail()), lease)
            }
            State::Refreshing(held, _)
            | State::RenewingGrant(held, _)
            | State::ReadingClient(held)
            | State::RereadingSecret(held)
            | State::LoggingIn(held, _)
            | State::Probing(held)
            | State::Revoking { held, .. } => {
                let failed = matches!(&flow.state, State::Revoking { failed, .. } if !failed.is_empty());
                let pending = pending_revocations(&held.account);
                (format!("{failed} {pending:?}"), Some(held.lease))
            }
            _ => (String::new(), None),
        };
        let held = lease.map(|lease| self.now > POLICY.latest_send(&lease, deadline));
        let account = (
            account.active_cooldown(self.now).map(|cooldown| cooldown.reason),
            account.active_lease(self.now).is_some(),
            account.rejected_secret.is_some(),
            pending_revocations(&account),
            account
                .grant
                .as_ref()
                .map(|grant| (std::mem::discriminant(&grant.health()), grant.trial.is_some())),
        );
        let flags = [
            flow.progress.target == OperatorTarget::NotSeen,
            flow.progress.tried_revocations,
            flow.jittered,
            flow.orphan.is_some(),
            flow.cache.pending_write.is_some(),
            flow.late_login,
            flow.rejected_version.is_some(),
            flow.lease_failed_since.is_some(),
            flow.cache.recent_secret_failure(cx).is_some(),
        ];
        let intent = flow.request.intent;
        let state = state_name(&flow.state);
        let mut hasher = DefaultHasher::new();
        (state, detail, held, left, kind, intent, account, flags).hash(&mut hasher);
        hasher.finish()
    }

    /// Every event that may answer the pending effect.
    pub(super) fn events(&self) -> Vec<(String, Event)> {
        match &self.pending {
            Effect::ReadAccount => {
                let records =
                    self.records().into_iter().map(|(name, account)| (name, Event::Account(Ok(account))));
                let errors = [
                    ("unreachable", StoreError::Unreachable),
                    ("unreadable", StoreError::Unreadable("attribute".to_owned())),
                ];
                let errors = errors.map(|(name, error)| (name, Event::Account(Err(error))));
                records.chain(errors).map(|(name, event)| (name.to_owned(), event)).collect()
            }
            Effect::WriteAccount { .. } | Effect::WriteLimiter { .. } => vec![
                ("applied".to_owned(), Event::Written(WriteOutcome::Applied)),
                ("conflict".to_owned(), Event::Written(WriteOutcome::Conflict)),
                ("unknown".to_owned(), Event::Written(WriteOutcome::Unknown)),
            ],
            Effect::ReadLimiter(_) => {
                let mut full = LoginLimiter::default();
                for holder in 0..POLICY.login_budget as u64 {
                    full = full
                        .try_acquire(&POLICY, &other(holder), Holder(u64::MAX - holder), self.now)
                        .unwrap_or(full);
                }
                let blocked = LoginLimiter::default().block(self.now.plus(Duration::from_secs(60)), self.now);
                let limiters = [
                    ("login is free", LoginLimiter::default()),
                    ("budget exhausted", full),
                    ("blocked", blocked),
                    ("own permit", self.limiter.clone()),
                ];
                let known = usize::from(self.limiter.permits.is_empty());
                let limiters = limiters.into_iter().take(4 - known);
                limiters
                    .map(|(name, limiter)| (name.to_owned(), Event::Limiter(Ok(limiter))))
                    .chain([("unreachable".to_owned(), Event::Limiter(Err(StoreError::Unreachable)))])
                    .collect()
            }
            Effect::ReadSecret => {
                let version = |name: &str| Event::Secret(Ok(credentials(name)));
                vec![
                    ("secret v1".to_owned(), version("v1")),
                    ("secret v2".to_owned(), version("v2")),
                    ("a grant".to_owned(), Event::Secret(Ok(testing::grant("v1", "bootstrap")))),
                    ("no secret".to_owned(), Event::Secret(Err(SecretError::Missing))),
                    ("bad secret".to_owned(), Event::Secret(Err(SecretError::Bad("field".to_owned())))),
                    ("unreachable".to_owned(), Event::Secret(Err(SecretError::Unreachable))),
                ]
            }
            Effect::Send { call, .. } => {
                let replies: &[UpstreamReply] = match call {
                    Call::Login(_) | Call::Refresh(..) => &[
                        UpstreamReply::Granted(granted(1)),
                        UpstreamReply::Granted(TokenResponse {
                            access_expiry: Expiry::In(Duration::from_secs(2)),
                            ..granted(2)
                        }),
                        UpstreamReply::Unauthorized,
                        UpstreamReply::Refused,
                        UpstreamReply::ClientRefused,
                        UpstreamReply::RateLimited(None),
                        UpstreamReply::UNEXPECTED,
                        UpstreamReply::NeverLeft,
                        UpstreamReply::TooLate,
                    ],
                    Call::Revoke(..) => &[
                        UpstreamReply::Revoked,
                        UpstreamReply::Refused,
                        UpstreamReply::UNEXPECTED,
                        UpstreamReply::TooLate,
                    ],
                    Call::Probe(_) => &[
                        UpstreamReply::Alive,
                        UpstreamReply::Unauthorized,
                        UpstreamReply::Refused,
                        UpstreamReply::RateLimited(None),
                        UpstreamReply::UNEXPECTED,
                        UpstreamReply::NeverLeft,
                        UpstreamReply::TooLate,
                    ],
                };
                replies.iter().map(|reply| (reply.name().to_owned(), replied(reply))).collect()
            }
            Effect::Pause { .. } => vec![("resumed".to_owned(), Event::Resumed)],
        }
    }

    /// Records that may stand in the table: as last read, as last written by this flow, or by another attempt.
    fn records(&self) -> Vec<(&'static str, Account)> {
        let own = self.written.clone().map(|account| ("own write", account));
        let known = self.flow.cache.record.as_ref().map(|cached| ("unchanged", cached.account.clone()));
        // Another attempt's write has another version, also at the instant of the last one.
        let known_version = self.flow.cache.record.as_ref().map_or(0, |cached| cached.account.version.0);
        let version = Version(known_version.max(self.now.as_millis() + 1_000_000) + 1);
        let until = self.now.plus(Duration::from_secs(10));
        let usable = Pair { generation: Generation(version.0), ..testing::pair(self.now.plus(WEEK)) };
        let expiring = testing::pair(self.now.plus(Duration::from_secs(30)));
        let issued_elsewhere = Pair { origin: testing::grant("v1", "bootstrap").origin, ..expiring.clone() };
        let due = testing::pair(self.now.plus(Duration::from_secs(3600)));
        let base = Account { version, ..Account::default() };
        let with = |pair: &Pair| Account { pair: Some(pair.clone()), ..base.clone() };
        let consumed = |pair: &Pair| {
            let mut account = with(pair);
            account.mark_refresh_token(true);
            account
        };
        let lease = Some(Lease { holder: Holder(u64::MAX), until });
        let cooldown = Some(Cooldown {
            until,
            reason: CooldownReason::Unavailable(crate::UpstreamFault::Unexpected),
            failures: 1,
        });
        let rejected_secret = Some(testing::rejection("v1", START));
        let others = [
            base.clone(),
            Account { lease, ..base.clone() },
            Account { cooldown, ..base.clone() },
            Account { rejected_secret: rejected_secret.clone(), ..base.clone() },
            Account { pending_revocations: expiring.revocations().collect(), ..base.clone() },
            Account { pending_revocations: issued_elsewhere.revocations().collect(), ..base.clone() },
            with(&usable),
            Account { lease, ..with(&usable) },
            with(&testing::pair(self.now.plus(WEEK))),
            with(&due),
            consumed(&due),
            with(&expiring),
            Account { rejected_secret, ..with(&expiring) },
            consumed(&expiring),
            Account { lease, ..with(&expiring) },
            Account { grant: Some(Box::default()), ..with(&expiring) },
        ];
        own.into_iter().chain(known).chain(others.map(|account| ("record", account))).collect()
    }

    pub(super) fn after(&self, event: Event, late: Duration, draw: u64) -> (Step, Flow, Timestamp) {
        let mut flow = self.flow.clone();
        let now = match &self.pending {
            Effect::Pause { until } => self.now.max(*until),
            _ => self.now,
        };
        let now = now.plus(late);
        let step = flow.step(cx(now, Draw(draw)), event);
        (step, flow, now)
    }
}

impl Attempt {
    fn tries(&self) -> u32 {
        match self {
            Self::Lease(_) => 0,
            Self::Save(attempt) => attempt.tries,
            Self::Mark(attempt) => attempt.tries,
            Self::Permit(attempt) => attempt.tries,
            Self::Block(attempt) => attempt.tries,
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::Lease(attempt) => format!("{:?}", std::mem::discriminant(&attempt.purpose)),
            Self::Save(attempt) => match &attempt.ending {
                Ending::Failed(failure) => failure.code().as_str().to_owned(),
                ending => format!("{ending:?}"),
            },
            Self::Permit(_) | Self::Block(_) | Self::Mark(_) => String::new(),
        }
    }
}

/// Another account of the fleet.
fn other(number: u64) -> AccountName {
    AccountName::parse(&format!("other-{number}")).unwrap()
}

/// Whether revocations are pending, and whether the first one needs a client.
fn pending_revocations(account: &Account) -> Option<bool> {
    account.pending_revocations.first().map(|revocation| revocation.origin.needs_client())
}
