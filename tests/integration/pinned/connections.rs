//! The connections to the upstream: how long a call may take, and what it never does.

use super::{
    host::{Host, Script, response},
    upstream::{calls, client, login, probe, refresh, send},
};
use crate::{instance, world};
use protocol::{Call, IssuedToken, Origin, Secret, Unclear, UpstreamReply};
use std::time::Duration;
use token_broker::ports::Upstream;
use tokio::time::Instant;

/// Far above the real time that a test takes.
const TIMEOUT: Duration = Duration::from_secs(1000);
const REAL: Duration = Duration::from_secs(100);
const NO_RESPONSE: UpstreamReply = UpstreamReply::Unclear(Unclear::NoResponse);

/// The reply to a call, and how long it took by the test's clock, which stands still while `requests` requests hang.
async fn hang(host: &Host, call: Call, requests: usize) -> (UpstreamReply, Duration) {
    let client = client(&host.url(), TIMEOUT);
    let started = Instant::now();
    let sent = tokio::spawn(async move { client.send(&call).await });
    for count in 1..=requests {
        host.arrived(count).await;
        tokio::time::pause();
        if count < requests {
            // The host lets the clock run when it responds.
            host.arrived(count + 1).await;
        }
    }
    let reply = sent.await.expect("no panic");
    let elapsed = started.elapsed();
    tokio::time::resume();
    (reply, elapsed)
}

fn assert_about(elapsed: Duration, expected: Duration) {
    assert!(elapsed >= expected && elapsed < expected + REAL, "{elapsed:?}, not {expected:?}");
}

#[tokio::test]
async fn a_call_without_a_response_ends_after_the_timeout() {
    for call in calls() {
        let (name, host) = (call.name(), Host::start([]).await);
        let (reply, elapsed) = hang(&host, call, 1).await;
        assert_eq!((reply, host.requests().len()), (NO_RESPONSE, 1), "{name}");
        assert_about(elapsed, TIMEOUT);
    }
}

#[tokio::test]
async fn the_timeout_includes_the_body() {
    for call in [login(Origin::default()), refresh()] {
        let half = response(200, &[], r#"{"access_token":"a"}"#).replace("\"a\"}", "");
        let host = Host::start([Script::Stall(half)]).await;
        let (reply, elapsed) = hang(&host, call, 1).await;
        assert_eq!((reply, host.requests().len()), (UpstreamReply::UNEXPECTED, 1));
        assert_about(elapsed, TIMEOUT);
    }
}

#[tokio::test]
async fn both_requests_of_a_probe_share_one_timeout() {
    let late = Script::RespondAfter(Duration::from_secs(600), response(404, &[], ""));
    let host = Host::start([late]).await;
    let (reply, elapsed) = hang(&host, probe(Origin::default()), 2).await;
    assert_eq!((reply, host.requests().len()), (NO_RESPONSE, 2));
    assert_about(elapsed, TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn a_connect_takes_two_seconds_or_half_the_timeout() {
    // The host never finishes the TLS handshake, which is part of the connect.
    let host = Host::start([]).await;
    for (timeout_ms, limit_ms) in [(1000, 500), (3000, 1500), (4000, 2000), (10_000, 2000), (25_000, 2000)] {
        for call in calls() {
            let client =
                client(&host.url().replace("http://", "https://"), Duration::from_millis(timeout_ms));
            let started = Instant::now();
            assert_eq!(client.send(&call).await, UpstreamReply::NeverLeft, "{} {timeout_ms}", call.name());
            let elapsed = started.elapsed().as_millis();
            assert!((limit_ms..limit_ms + 20).contains(&elapsed), "{timeout_ms}: {elapsed}, not {limit_ms}");
        }
    }
}

#[tokio::test]
async fn a_request_is_not_sent_again_if_the_connection_ends() {
    for call in calls() {
        let host = Host::start([Script::Close]).await;
        assert_eq!(send(&host, &call).await, NO_RESPONSE, "{}", call.name());
        assert_eq!((host.requests().len(), host.connections()), (1, 1), "{}", call.name());
    }
}

#[tokio::test]
async fn a_token_that_no_header_can_hold_is_not_sent() {
    let host = Host::start([]).await;
    let token = Secret::from("two\nlines");
    let call = Call::Probe(IssuedToken { token, origin: Origin::default() });
    assert_eq!((send(&host, &call).await, host.connections()), (UpstreamReply::NeverLeft, 0));
}

#[tokio::test]
async fn every_request_has_a_new_connection() {
    // The host would keep each connection open.
    let host = Host::start((0..5).map(|_| Script::Respond(response(404, &[], "")))).await;
    let client = client(&host.url(), Duration::from_secs(60));
    for call in calls() {
        client.send(&call).await;
    }
    assert_eq!((host.requests().len(), host.connections()), (5, 5), "a probe sends two requests");
}

/// Otherwise the kernel would continue to deliver a request that the client has given up.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_kernel_drops_a_request_with_the_client() {
    let timeout = Duration::from_millis(61_234);
    let host = Host::start([]).await;
    let client = client(&host.url(), timeout);
    let sent = tokio::spawn(async move { client.send(&refresh()).await });
    host.arrived(1).await;
    let socket = socket_of(host.requests()[0].client);
    assert_eq!(rustix::net::sockopt::tcp_user_timeout(&socket).map(u64::from), Ok(61_234));
    sent.abort();
}

/// A copy of this process's socket with this address. No library exposes the sockets of its connections.
#[cfg(target_os = "linux")]
fn socket_of(address: std::net::SocketAddr) -> std::os::fd::OwnedFd {
    use rustix::process::{ForeignRawFd, PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
    let this = pidfd_open(getpid(), PidfdFlags::empty()).expect("a handle of this process");
    let open = std::fs::read_dir("/proc/self/fd").expect("the open files");
    let numbers = open.filter_map(|file| file.ok()?.file_name().to_str()?.parse::<ForeignRawFd>().ok());
    numbers
        .filter_map(|number| pidfd_getfd(&this, number, PidfdGetfdFlags::empty()).ok())
        .find(|file| {
            let own = rustix::net::getsockname(file).ok().and_then(|own| own.try_into().ok());
            own == Some(address)
        })
        .expect("a socket with this address; copying it needs the system call pidfd_getfd")
}

#[tokio::test]
async fn no_proxy_of_the_environment_is_used() {
    let (world, proxy) = (world().await, Host::start([]).await);
    // `NO_PROXY` exempts the AWS emulators, but not the upstream.
    let upstream = world.convirza.url().replace("127.0.0.1", "localhost");
    let url = proxy.url();
    let settings = [
        ("BROKER_OAUTH_URL", upstream.as_str()),
        ("NO_PROXY", "127.0.0.1"),
        ("HTTP_PROXY", &url),
        ("http_proxy", &url),
        ("HTTPS_PROXY", &url),
        ("ALL_PROXY", &url),
    ];
    let instance = instance::start(&world, &settings).await;
    let answer = instance.invoke(serde_json::json!({})).await.expect("a token");
    assert_eq!(answer["served_from"], "upstream");
    assert_eq!((proxy.connections(), world.convirza.observed().logins_arrived), (0, 1));
}
