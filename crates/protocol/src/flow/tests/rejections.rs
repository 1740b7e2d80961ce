//! Rejected secret versions, and when they are tried again.

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn refused(world: &mut World, intent: Intent) -> Failure {
    let mut flow = Flow::new(world.request(intent), Cache::default());
    world.run(&mut flow, answering("login", UpstreamReply::Unauthorized)).unwrap_err()
}

fn rejected() -> Failure {
    Failure::CredentialsRejected(SecretVersion("v1".to_owned()))
}

#[test]
fn a_request_tries_again_after_six_hours_doubled_to_a_day() {
    let mut world = World::new();
    assert_eq!(refused(&mut world, TOKEN), rejected());
    let mut logins = 1;
    for hours in [6, 12, 24, 24] {
        world.pass((HOUR * hours).saturating_sub(SECOND));
        assert_eq!(refused(&mut world, TOKEN), rejected());
        assert_eq!(world.count("login"), logins, "not before {hours} h");
        // Up to a tenth more.
        world.pass(SECOND + HOUR * hours / 10);
        assert_eq!(refused(&mut world, TOKEN), rejected());
        logins += 1;
        assert_eq!(world.count("login"), logins, "after {hours} h");
    }
}

#[test]
fn a_later_success_forgets_the_rejections() {
    let mut world = World::new();
    refused(&mut world, TOKEN);
    world.pass(HOUR * 7);
    assert!(world.token().is_ok());
    assert_eq!(world.account.rejected_secret, None);
}

#[test]
fn the_schedule_does_not_try_again() {
    let mut world = World::with_pair(Duration::ZERO);
    world.account.mark_refresh_token(true);
    world.account.rejected_secret = Some(testing::rejection("v1", START));
    world.pass(HOUR * 100);
    assert_eq!(refused(&mut world, Intent::Maintain(Task::Renew)), rejected());
    assert_eq!(world.count("login"), 0);
    assert_eq!(refused(&mut world, TOKEN), rejected());
    assert_eq!(world.count("login"), 1);
}

#[test]
fn a_rejection_of_an_earlier_release_is_dated_once() {
    let mut world = World::new();
    world.account = Account { version: Version(7), ..Account::default() };
    let old = crate::RejectedSecret { retry_at: None, ..testing::rejection("v1", START) };
    world.account.rejected_secret = Some(old);
    for writes in [1, 1] {
        assert_eq!(world.token(), Err(rejected()));
        assert_eq!((world.count("write account"), world.count("login")), (writes, 0));
    }
    world.pass(HOUR * 7);
    assert!(world.token().is_ok());
}

#[test]
fn a_next_try_that_is_refused_counts_as_a_rejection() {
    let mut world = World::new();
    refused(&mut world, TOKEN);
    world.pass(HOUR * 7);
    let failure = fails(&mut world, "login", UpstreamReply::Refused);
    assert!(matches!(failure, Failure::UpstreamUnavailable { fault: crate::UpstreamFault::Refused, .. }));
    assert!(world.account.rejected_secret.is_some());
    assert!(matches!(refused(&mut world, TOKEN), Failure::UpstreamUnavailable { .. }), "it is in cooldown");
    world.pass(Duration::from_secs(90));
    assert_eq!((refused(&mut world, TOKEN), world.count("login")), (rejected(), 2), "it is no longer due");
    world.pass(HOUR * 14);
    assert_eq!((refused(&mut world, TOKEN), world.count("login")), (rejected(), 3));
}
