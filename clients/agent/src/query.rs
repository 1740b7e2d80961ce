//! The token that a query or a form asks for.

use contract::Call;
use token_broker_client::{Error, Token, TokenSource};

/// Answers a call for a token. The agent calls the broker under its own name, so a `client` in the call is ignored.
pub(crate) async fn answer(source: &TokenSource, call: &Call) -> Result<Token, Error> {
    let account = call.account.clone().unwrap_or_default();
    match (call.min_ttl, call.rejected) {
        (None, None) => source.get(&account).await,
        (Some(min_ttl), None) => source.get_for(&account, min_ttl).await,
        (None, Some(rejected)) => source.report(&account, rejected).await,
        (Some(min_ttl), Some(rejected)) => source.report_for(&account, rejected, min_ttl).await,
    }
}
