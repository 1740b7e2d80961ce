//! Logs what a flow did.

use protocol::{AccountName, Call, Notice, UpstreamReply};

pub(super) fn log_call(account: &AccountName, call: &Call, reply: &UpstreamReply, elapsed_ms: u128) {
    let call = call.name();
    let succeeded =
        matches!(reply, UpstreamReply::Granted(_) | UpstreamReply::Revoked | UpstreamReply::Alive);
    let reply = reply.name();
    if succeeded {
        // The invocation's line counts the calls.
        tracing::debug!(%account, call, reply, elapsed_ms, "upstream call");
    } else {
        tracing::warn!(%account, call, reply, elapsed_ms, "upstream call");
    }
}

pub(super) fn log_notice(account: &AccountName, notice: &Notice) {
    match notice {
        Notice::LeaseAcquired(fence) => tracing::debug!(%account, fence = fence.0, "lease acquired"),
        Notice::LeaseConflict => tracing::debug!(%account, "lease conflict: another attempt wrote first"),
        Notice::RefreshExpiryDropped => {
            tracing::warn!(%account, "the upstream's expiry of the refresh token is past or impossible; ignoring it");
        }
        Notice::TokenTooLong => {
            tracing::warn!(%account, "the upstream granted a token of more than 64 KiB; dropping it");
        }
        Notice::ExpiryAssumed => {
            tracing::warn!(%account, "the upstream's expiry is missing, unreadable, in the past or impossible; assuming one hour");
        }
        Notice::RefreshRefused => tracing::warn!(%account, "refresh token refused"),
        Notice::FoundAlive(generation) => {
            tracing::info!(%account, generation = generation.0, "access token reported as rejected, but a probe found it alive");
        }
        Notice::FoundDead(generation) => {
            tracing::warn!(%account, generation = generation.0, "a probe found the access token dead");
        }
        Notice::PairWithdrawn(generation) => {
            tracing::warn!(%account, generation = generation.0, "pair withdrawn");
        }
        Notice::PairSaved(generation) => tracing::debug!(%account, generation = generation.0, "pair saved"),
        Notice::WritePending(generation) => {
            tracing::warn!(%account, generation = generation.0, "pair not saved yet; serving it from memory");
        }
        Notice::LeaseLost(generation) => {
            tracing::warn!(%account, generation = generation.0, "lease lost before this pair was saved");
        }
        Notice::OrphanRecorded(generation) => {
            tracing::info!(%account, generation = generation.0, "an orphan (a pair that was never saved) will be revoked");
        }
        Notice::RevocationsDropped(count) => {
            tracing::warn!(%account, count, "pending revocations dropped: expired, in use again, or too many");
        }
        Notice::RevocationRefused => {
            tracing::warn!(%account, "the upstream refused to revoke a token; is BROKER_REVOKE_FIELD right?");
        }
        Notice::ClockOff => {
            tracing::warn!(%account, "the clocks of this instance disagree; no lease until the store is read again");
        }
        Notice::Unblocked => tracing::info!(%account, "account unblocked"),
        Notice::CooldownStarted(until) => {
            tracing::warn!(%account, until_ms = until.as_millis(), "cooldown started");
        }
        Notice::SecretRejected(version) => {
            tracing::error!(%account, secret_version = %version, "credentials rejected; store a new version of the secret");
        }
    }
}
