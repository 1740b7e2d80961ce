//! Production implementations of the [`ports`](crate::ports). They translate and decide nothing.
//!
//! | module | contents |
//! | --- | --- |
//! | [`aws_http`] | the AWS SDK's HTTP client |
//! | `clock` | the wall clock and random numbers |
//! | [`dynamodb`] | conditional reads and writes; [`dynamodb::item`] is the form of the stored items |
//! | [`sdk`] | the AWS SDK's settings |
//! | `secret` | the JSON of a secret |
//! | `secrets_manager` | the accounts' credentials |
//! | [`Roots`] | which certificate authorities are trusted; the clients have the same rule |
//! | [`upstream`] | Convirza and OAuth 2.0: requests, responses, expiries |
//! | `upstream_hosts` | the hosts to which tokens and passwords may be sent |

pub mod aws_http;
mod clock;
pub mod dynamodb;
pub mod sdk;
mod secret;
mod secrets_manager;
pub mod upstream;
mod upstream_hosts;

pub use clock::{FleetClock, SystemClock};
pub use dynamodb::Table;
pub use secret::parse as parse_secret;
pub use secrets_manager::SecretsManager;
pub use token_broker_client::http::Roots;
pub use upstream::HttpUpstream;
pub use upstream_hosts::UpstreamHosts;

#[cfg(test)]
mod tests {
    use super::*;
    use emulators::fakes::{Server, Silent, respond};
    use std::{net::SocketAddr, time::Duration};

    const LIMIT: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn all_addresses_of_a_name_are_tried_within_the_limit() {
        let tls = Roots::default().tls_config().unwrap();
        let server = Server::script(async |_| respond(200, "")).await;
        let answers: SocketAddr = server.url().trim_start_matches("http://").parse().unwrap();
        // The ports of the addresses count, because the URL has none.
        let listeners = Silent::start().await;
        for silent in listeners.cases() {
            let addresses: Vec<_> = silent.iter().copied().chain([answers]).collect();
            let upstream = upstream::builder(tls.clone(), LIMIT);
            for builder in [aws_http::pool(tls.clone()), upstream] {
                let client = builder.no_proxy().resolve_to_addrs("host.example", &addresses).build();
                let sent = client.unwrap().get("http://host.example/").send();
                let sent = tokio::time::timeout(LIMIT, sent).await.expect("within the limit");
                assert_eq!(sent.expect("a response").status(), 200, "{silent:?}");
            }
        }
    }
}
