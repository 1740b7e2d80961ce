//! Accounts at an OAuth 2.0 server, whose grants a login repairs.

use super::*;
use crate::{
    Client, ClientAuth, Endpoints, Extra, GrantType, Login, RefreshToken, SecretVersion, UpstreamUrl,
};

fn endpoints(token_url: &str) -> Endpoints {
    let url = |text: &str| UpstreamUrl::parse_endpoint(text).unwrap();
    Endpoints {
        token_url: url(token_url),
        revoke_url: Some(url("https://x.example/revoke")),
        probe_url: Some(url("https://x.example/me")),
    }
}

const TOKEN_URL: &str = "https://x.example/token";

fn origin() -> Origin {
    Origin::OAuth2(endpoints(TOKEN_URL))
}

fn secret(origin: Origin, grant: GrantType) -> Credentials {
    let client = testing::client("id", "secret", ClientAuth::Basic);
    Credentials { version: SecretVersion("v1".to_owned()), origin, login: Login::OAuth2 { client, grant } }
}

fn password() -> GrantType {
    GrantType::Password { username: Secret::from("user"), password: Secret::from("word") }
}

/// A password grant with a pair that expires that long from now.
fn world(left: Duration) -> World {
    let mut world = World::with_pair(left);
    world.account.pair.as_mut().unwrap().origin = origin();
    world.secret = Ok(secret(origin(), password()));
    world
}

fn refresh_token(world: &World) -> RefreshToken {
    world.pair().refresh_token.clone().unwrap()
}

fn client_of(call: &Call) -> Option<&Client> {
    match call {
        Call::Refresh(_, client) | Call::Revoke(_, client) => client.as_ref(),
        Call::Login(_) | Call::Probe(_) => None,
    }
}

const MINUTE: Duration = Duration::from_secs(60);
const HALF_A_MINUTE: Duration = Duration::from_secs(30);

mod a_refresh {
    use super::*;

    #[test]
    fn reads_the_secret_and_authenticates_the_client() {
        let mut world = world(HALF_A_MINUTE);
        let mut flow = Flow::new(world.request(TOKEN), Cache::default());
        let mut clients = Vec::new();
        world
            .run(&mut flow, |_, effect| {
                if let Effect::Send { call, .. } = effect {
                    clients.push(client_of(call).cloned());
                }
                Fate::Done
            })
            .unwrap();
        let sent: Vec<_> = world.requested.iter().filter(|name| *name != "pause").collect();
        assert_eq!(
            sent,
            ["read account", "read account", "read secret", "write account", "refresh", "write account"]
        );
        assert_eq!(clients, [Some(testing::client("id", "secret", ClientAuth::Basic))]);
        assert_eq!((&world.pair().origin, world.pair().obtained_by), (&origin(), ObtainedBy::Refresh));
    }

    #[test]
    fn waits_for_an_unreachable_secret_and_serves_the_rest() {
        let mut world = world(HALF_A_MINUTE);
        world.secret = Err(SecretError::Unreachable);
        assert_eq!(world.token().unwrap().generation, Generation(7));
        assert!(!refresh_token(&world).consumed);
        world.pass(MINUTE);
        assert_eq!(world.token(), Err(Failure::SecretUnavailable));
        assert_eq!(world.count("refresh") + world.count("login"), 0);
    }

    #[test]
    fn whose_client_is_refused_consumes_nothing_and_logs_in_nowhere() {
        let mut world = world(HALF_A_MINUTE);
        let mut flow = Flow::new(world.request(TOKEN), Cache::default());
        let answer = world.run(&mut flow, answering("refresh", UpstreamReply::ClientRefused)).unwrap();
        assert_eq!(answer.generation, Generation(7), "its remaining life");
        assert!(!refresh_token(&world).consumed);
        assert!(world.account.rejected_secret.is_none() && world.account.cooldown.is_some());
        assert_eq!((world.count("refresh"), world.count("login")), (1, 0));
        world.pass(Duration::from_secs(120));
        world.token().unwrap();
        assert_eq!(
            (world.count("refresh"), world.count("login")),
            (2, 0),
            "the same token, once the client is repaired"
        );
    }

    #[test]
    fn whose_token_is_dead_is_followed_by_a_login() {
        for refusal in [UpstreamReply::Unauthorized, UpstreamReply::Refused] {
            let mut world = world(HALF_A_MINUTE);
            let mut flow = Flow::new(world.request(TOKEN), Cache::default());
            world.run(&mut flow, answering("refresh", refusal)).unwrap();
            assert_eq!((world.count("refresh"), world.count("login")), (1, 1));
        }
    }

    #[test]
    fn is_sent_only_to_the_secrets_upstream() {
        let mut world = world(HALF_A_MINUTE);
        let other = Origin::OAuth2(endpoints("https://y.example/token"));
        world.secret = Ok(secret(other.clone(), password()));
        world.token().unwrap();
        assert_eq!((world.count("refresh"), world.count("login")), (0, 1));
        assert_eq!(world.pair().origin, other);
    }

    #[test]
    fn keeps_the_extra_fields_that_are_not_sent_again() {
        let mut world = world(HALF_A_MINUTE);
        let extra = Extra::parse(r#"{"instance_url":"https://x.example"}"#);
        world.account.pair.as_mut().unwrap().extra.clone_from(&extra);
        let answer = world.token().unwrap();
        assert_eq!((answer.extra, world.count("refresh")), (extra, 1));
    }
}

mod client_credentials {
    use super::*;

    #[test]
    fn are_a_login_with_a_permit_each_time() {
        let mut world = World::new();
        world.secret = Ok(secret(origin(), GrantType::ClientCredentials));
        for logins in 1..=2 {
            world.token().unwrap();
            assert_eq!(world.pair().refresh_token, None, "the server gave one");
            assert_eq!((world.count("login"), world.limiter.permits.len()), (logins, logins));
            world.account.pair.as_mut().unwrap().expires_at = world.now;
        }
        assert_eq!(world.count("refresh"), 0);
    }
}

mod a_report {
    use super::*;

    fn report(world: &mut World) -> Generation {
        let generation = world.pair().generation;
        let intent = Intent::Token { min_ttl: MINUTE, rejected: Some(generation) };
        let mut flow = Flow::new(world.request(intent), Cache::default());
        world.run(&mut flow, |_, _| Fate::Done).unwrap().generation
    }

    #[test]
    fn is_believed_without_a_probe_and_paced_by_young_deaths() {
        let mut world = world(WEEK);
        let bare = Endpoints { probe_url: None, ..endpoints(TOKEN_URL) };
        world.account.pair.as_mut().unwrap().origin = Origin::OAuth2(bare.clone());
        world.secret = Ok(secret(Origin::OAuth2(bare), password()));
        for death in 1..=4 {
            let before = world.pair().generation;
            world.pass(Duration::from_secs(1));
            let after = report(&mut world);
            assert_eq!(after != before, death <= 3, "death {death}");
        }
        assert_eq!((world.count("probe"), world.count("refresh")), (0, 3));
    }

    #[test]
    fn is_probed_where_the_secret_has_a_url() {
        let mut world = world(WEEK);
        assert_eq!(report(&mut world), Generation(7));
        assert_eq!((world.count("probe"), world.count("refresh")), (1, 0));
    }
}

mod a_revocation {
    use super::*;

    fn revoked(world: &mut World) -> Vec<Option<Client>> {
        let mut flow = Flow::new(world.request(Intent::Revoke), Cache::default());
        let mut clients = Vec::new();
        let note = |_: &mut World, effect: &Effect| {
            if let Effect::Send { call, .. } = effect {
                clients.push(client_of(call).cloned());
            }
            Fate::Done
        };
        world.run(&mut flow, note).unwrap();
        clients
    }

    #[test]
    fn authenticates_the_client() {
        let mut world = world(WEEK);
        let client = Some(testing::client("id", "secret", ClientAuth::Basic));
        assert_eq!(revoked(&mut world), [client.clone(), client]);
        assert!(world.account.pair.is_none() && world.pending().is_empty());
    }

    #[test]
    fn stays_pending_without_the_clients_credentials() {
        for read in [
            Err(SecretError::Unreachable),
            Ok(credentials("v1")),
            Ok(secret(Origin::OAuth2(endpoints("https://y.example/token")), password())),
        ] {
            let mut world = world(WEEK);
            world.secret = read;
            assert_eq!(revoked(&mut world), []);
            assert_eq!(world.pending(), ["refresh 0", "access 0"]);
        }
    }

    #[test]
    fn needs_a_url() {
        let mut world = world(WEEK);
        let bare = Endpoints { revoke_url: None, ..endpoints(TOKEN_URL) };
        world.account.pair.as_mut().unwrap().origin = Origin::OAuth2(bare);
        assert_eq!(revoked(&mut world), []);
        assert!(world.account.pair.is_none() && world.pending().is_empty());
    }
}

mod a_short_token {
    use super::*;

    #[test]
    fn is_served_to_its_end_while_it_cannot_be_renewed() {
        for refusal in
            [UpstreamReply::RateLimited(None), UpstreamReply::ClientRefused, UpstreamReply::UNEXPECTED]
        {
            let mut world = world(HALF_A_MINUTE);
            world.account.pair.as_mut().unwrap().refresh_token = None;
            let mut flow = Flow::new(world.request(TOKEN), Cache::default());
            let first = world.run(&mut flow, answering("login", refusal.clone())).unwrap();
            world.account.cooldown.as_mut().unwrap().until = world.now.plus(MINUTE);
            let second = world.token().unwrap();
            assert_eq!((first.generation, second.generation), (Generation(7), Generation(7)), "{refusal:?}");
            assert_eq!(world.count("login"), 1);
            world.pass(HALF_A_MINUTE);
            assert!(world.token().is_err(), "it has expired");
        }
    }

    #[test]
    fn of_convirza_is_refused_to_a_caller_who_wants_more() {
        let mut world = World::with_pair(HALF_A_MINUTE);
        world.account.pair.as_mut().unwrap().refresh_token = None;
        let mut flow = Flow::new(world.request(TOKEN), Cache::default());
        assert!(world.run(&mut flow, answering("login", UpstreamReply::RateLimited(None))).is_err());
    }

    #[test]
    fn is_not_renewed_before_the_accounts_own_time() {
        const TEN_MINUTES: Duration = Duration::from_secs(600);
        let mut world = world(TEN_MINUTES);
        let Login::OAuth2 { client, grant } = secret(origin(), password()).login else { unreachable!() };
        let client = Client { refresh_ahead: Some(Duration::from_secs(25)), ..client };
        world.secret =
            Ok(Credentials { login: Login::OAuth2 { client, grant }, ..secret(origin(), password()) });
        let pair = world.account.pair.as_mut().unwrap();
        (pair.refresh_ahead, pair.issued_at) = (Some(Duration::from_secs(25)), START);
        world.eager = true;
        for (at, refreshes) in [(540, 0), (574, 0), (579, 1)] {
            world.now = START.plus(Duration::from_secs(at));
            world.token().unwrap();
            assert_eq!(world.count("refresh"), refreshes, "after {at} s");
        }
        assert_eq!(world.pair().refresh_ahead, Some(Duration::from_secs(25)), "the secret's");
    }
}
