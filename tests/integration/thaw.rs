//! Idle connections may die while the process is frozen. The first request is still served.

use crate::world;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider};
use emulators::World;
use futures_util::future::join_all;
use protocol::{Account, AccountName, LimiterName, LoginLimiter, Version, WriteOutcome};
use std::{net::SocketAddr, sync::Arc};
use token_broker::{
    outbound::{Table, aws_http},
    ports::Store,
};
use tokio::{
    io::{copy, copy_bidirectional, sink},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// More than the SDK has attempts.
const IDLE: usize = 6;

/// How a dead connection handles the client's bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Death {
    Reset,
    Silence,
}

/// Forwards connections to the table, until they die.
struct Gate {
    address: SocketAddr,
    connections: watch::Receiver<usize>,
    /// The number of dead connections.
    dead: Arc<watch::Sender<usize>>,
    accepting: JoinHandle<()>,
}

impl Gate {
    async fn start(table: SocketAddr, death: Death) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (count, connections) = watch::channel(0);
        let dead = Arc::new(watch::Sender::new(0));
        let kept = Arc::clone(&dead);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                count.send_modify(|count| *count += 1);
                let number = *count.borrow();
                tokio::spawn(serve(client, table, number, death, count.subscribe(), kept.subscribe()));
            }
        });
        Self { address, connections, dead, accepting }
    }

    fn kill_all(&self) {
        self.dead.send_replace(*self.connections.borrow());
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(
    mut client: TcpStream,
    table: SocketAddr,
    number: usize,
    death: Death,
    mut count: watch::Receiver<usize>,
    mut dead: watch::Receiver<usize>,
) {
    // The first ones wait for each other, so that simultaneous requests open one connection each.
    count.wait_for(|count| *count >= IDLE).await.expect("the gate runs");
    let mut server = TcpStream::connect(table).await.expect("the table");
    let died = dead.wait_for(|dead| number <= *dead);
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => return,
        _ = died => {}
    }
    match death {
        Death::Silence => drop(copy(&mut client, &mut sink()).await),
        Death::Reset => {
            client.readable().await.expect("a request");
            client.set_zero_linger().expect("a socket");
            drop(client);
        }
    }
}

fn table(world: &World, url: &str) -> Table {
    let credentials = SharedCredentialsProvider::new(Credentials::new("local", "local", None, None, "local"));
    let sdk = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(credentials)
        .endpoint_url(url)
        .http_client(aws_http::http_client(crate::tls()).expect("a client"))
        .build();
    let clock = std::sync::Arc::new(token_broker::outbound::SystemClock);
    Table::new(&sdk, world.table().to_owned(), crate::hosts::none(), clock)
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_connections_do_not_use_up_the_attempts() {
    for death in [Death::Reset, Death::Silence] {
        let world = world().await;
        let address = world.dynamodb.url().trim_start_matches("http://").parse().expect("an address");
        let gate = Gate::start(address, death).await;
        let (table, name) = (table(&world, &format!("http://{}", gate.address)), AccountName::default());
        let limiter = LimiterName::default();
        for read in join_all((0..IDLE).map(|_| table.read_login_limiter(&limiter))).await {
            assert_eq!(read, Ok(LoginLimiter::default()));
        }
        assert_eq!(*gate.connections.borrow(), IDLE);
        gate.kill_all();
        let account = Account { version: Version(1), ..Account::default() };
        assert_eq!(
            table.write_account(&name, Version(0), &account).await,
            WriteOutcome::Applied,
            "{death:?}"
        );
        assert_eq!(table.read_login_limiter(&limiter).await, Ok(LoginLimiter::default()), "{death:?}");
        // One for each request at most: the pool may get the first one's connection back after the second has begun.
        let opened = *gate.connections.borrow() - IDLE;
        assert!((1..=2).contains(&opened), "{death:?}: {opened}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_connection_is_used_again() {
    const READS: u64 = 20;
    let world = world().await;
    let table = table(&world, &world.dynamodb.url());
    let before = world.dynamodb.connections();
    for _ in 0..READS {
        assert_eq!(table.read_login_limiter(&LimiterName::default()).await, Ok(LoginLimiter::default()));
    }
    // The pool may get a connection back after the next read has begun.
    assert!(world.dynamodb.connections() - before < READS / 2);
}
