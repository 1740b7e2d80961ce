//! The renewal protocol: everything that decides *whether* and *when*, and nothing that does.
//!
//! No clock, no randomness, no I/O, no async, no AWS, no HTTP. Time and the random draw come in as arguments,
//! so the same code runs in production, under a model checker and in a simulation. Read it in this order:
//!
//! | module | is about |
//! | --- | --- |
//! | [`time`] | instants, and the one random number of a step |
//! | [`record`] | what the fleet shares: the account's record and the ledger |
//! | [`policy`] | the operator's numbers and the arithmetic of times |
//! | [`ledger`] | how many logins may be sent |
//! | [`grant`] | what the upstream is asked, and what its answers mean |
//! | [`decide`] | one look at a record: answer, wait, fail or renew |
//! | [`memory`] | what one instance remembers, and what it may answer from that alone |
//! | [`flow`] | one request from its arrival to its answer, a step at a time |
//! | [`callers`] | who may do what |
//! | [`status`] | what an operator may know of an account |
//! | [`error`] | why a request could not be answered |

pub mod callers;
pub mod decide;
pub mod error;
pub mod flow;
pub mod grant;
pub mod ledger;
pub mod memory;
pub mod policy;
pub mod record;
pub mod status;
pub mod time;

/// A pair of generation 7 with a week's life, most of which may be over.
#[cfg(test)]
pub(crate) fn test_pair(expires_at: time::Timestamp) -> record::Pair {
    use crate::secret::Secret;
    record::Pair {
        generation: record::Generation(7),
        access_token: Secret::from("access"),
        refresh_token: Some(Secret::from("refresh")),
        refresh_spent: false,
        issued_at: expires_at.minus(std::time::Duration::from_secs(7 * 86_400)),
        expires_at,
        refresh_expires_at: None,
        obtained_by: record::Grant::Login,
        replaces: None,
        origin: record::Origin::default(),
        dead: false,
    }
}

#[cfg(test)]
pub(crate) fn test_policy() -> policy::Policy {
    use std::time::Duration;
    policy::Policy {
        login_budget: 5,
        refresh_ahead: Duration::from_secs(86_400),
        max_ttl: Duration::from_secs(900),
        memory_ttl: Duration::from_secs(30),
        upstream_timeout: Duration::from_secs(5),
        lease: Duration::from_secs(15),
        clock_margin: Duration::from_secs(2),
    }
}
