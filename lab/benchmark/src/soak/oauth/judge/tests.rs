use super::*;
use crate::oauth::record::{Answer, CarriedOut, Fingerprint};

/// Seconds after the start of a story.
type Seconds = f64;

struct Story {
    begins_at: Instant,
    record: Record,
    rules: GrantRules,
}

/// How the call of a refresh token ended.
#[derive(Clone, Copy)]
enum Reply {
    /// The server returned this refresh token, and the broker got it.
    Got(&'static str),
    /// The server returned this refresh token, and the reply was lost.
    Lost(&'static str),
    /// A 503, and the server saw nothing.
    Unavailable,
    InvalidGrant,
    InvalidClient,
}

impl Story {
    /// A grant that only a person can renew is in the secret.
    fn new() -> Self {
        let rules = GrantRules { by_person: true, resend_within: Duration::ZERO };
        let mut story = Self { begins_at: Instant::now(), record: Record::default(), rules };
        story.record.grants.push(("a".to_owned(), story.at(-1.0)));
        story
    }

    fn at(&self, seconds: Seconds) -> Instant {
        // Far from zero, because no instant can lie before that.
        self.begins_at + Duration::from_secs_f64(1_000.0 + seconds)
    }

    /// A call that the server answers within 0.1 s, with an access token for 12 s.
    fn calls(mut self, seconds: Seconds, token: &str, reply: Reply) -> Self {
        let at = self.at(seconds + 0.1);
        let answer = |status, error: Option<&str>, refresh: Option<&str>| CarriedOut {
            at,
            status,
            error: error.map(str::to_owned),
            access: refresh.map(|next| Fingerprint::of(&format!("access with {next}"))),
            refresh: refresh.map(Fingerprint::of),
            expires_in: Duration::from_secs(12),
        };
        let (carried_out, reply) = match reply {
            Reply::Got(next) => (Some(answer(200, None, Some(next))), Some((at, 200))),
            Reply::Lost(next) => (Some(answer(200, None, Some(next))), None),
            Reply::Unavailable => (None, Some((at, 503))),
            Reply::InvalidGrant => (Some(answer(400, Some("invalid_grant"), None)), Some((at, 400))),
            Reply::InvalidClient => (Some(answer(401, Some("invalid_client"), None)), Some((at, 401))),
        };
        self.record.exchanges.push(Exchange {
            account: "a".to_owned(),
            grant: "refresh_token".to_owned(),
            token: Some(Fingerprint::of(token)),
            arrived_at: self.at(seconds),
            fault: None,
            carried_out,
            reply,
        });
        self
    }

    /// A caller gets the access token that came with a refresh token, to keep it for 10 s.
    fn answers(self, seconds: Seconds, with: &str) -> Self {
        let token = Fingerprint::of(&format!("access with {with}"));
        let answer = Answer { token, generation: 1, expires_in: Duration::from_secs(10), from_table: true };
        self.observes(seconds, Ok(answer))
    }

    fn refuses(self, seconds: Seconds, code: &str) -> Self {
        self.observes(seconds, Err(code.to_owned()))
    }

    fn observes(mut self, seconds: Seconds, answer: Result<Answer, String>) -> Self {
        let (sent_at, at) = (self.at(seconds), self.at(seconds + 0.1));
        self.record.observations.push(Observation {
            process: 0,
            account: "a".to_owned(),
            sent_at,
            at,
            answer,
        });
        self
    }

    fn with_request(mut self, from: Seconds, to: Seconds) -> Self {
        self.record.requests.push(("a".to_owned(), self.at(from)..self.at(to)));
        self
    }

    fn with_frozen_request(mut self, from: Seconds, to: Seconds) -> Self {
        self.record.disturbances.push((Some("a".to_owned()), self.at(from)..=self.at(to)));
        self.with_request(from, to)
    }

    fn with_new_secret(mut self, seconds: Seconds) -> Self {
        self.record.grants.push(("a".to_owned(), self.at(seconds)));
        self
    }

    fn with_grace(mut self, seconds: u64) -> Self {
        self.rules.resend_within = Duration::from_secs(seconds);
        self
    }

    fn verdict(&self) -> Verdict {
        let timing = Timing {
            upstream_timeout: Duration::from_secs(1),
            clock_margin: Duration::from_millis(500),
            deadline: Duration::from_secs(5),
        };
        judge(&self.record, &BTreeMap::from([("a".to_owned(), self.rules)]), timing)
    }

    /// The only broken rule.
    fn breaks(&self, rule: &str) {
        let broken = self.verdict().broken;
        assert!(matches!(broken.as_slice(), [only] if only.contains(rule)), "{broken:?}");
    }

    fn resends(&self, reason: &str) {
        let verdict = self.verdict();
        assert_eq!(verdict.broken, Vec::<String>::new());
        assert_eq!(verdict.resends.keys().collect::<Vec<_>>(), [&reason]);
    }
}

#[test]
fn a_token_whose_successor_arrived_is_not_sent_again() {
    let story = Story::new().calls(0.0, "1", Reply::Got("2"));
    story.calls(1.0, "1", Reply::InvalidGrant).breaks("an earlier call was not settled");
}

#[test]
fn an_unclear_call_is_repeated_only_when_nothing_is_left() {
    let story = || Story::new().calls(0.0, "1", Reply::Got("2")).calls(6.0, "2", Reply::Lost("3"));
    story().calls(10.0, "2", Reply::InvalidGrant).breaks("not settled");
    story().calls(11.5, "2", Reply::InvalidGrant).breaks("the access token was alive");
    story().calls(12.5, "2", Reply::InvalidGrant).resends("(ii) the last resort");
    story().with_grace(5).calls(11.5, "2", Reply::InvalidGrant).breaks("the access token was alive");
    story().with_grace(60).calls(11.5, "2", Reply::Got("3")).resends("(i) the provider's grace");
    story().with_grace(60).calls(10.0, "2", Reply::Got("3")).breaks("not settled");
}

#[test]
fn a_call_settles_after_the_deadline_of_its_request() {
    let story = || Story::new().calls(0.0, "1", Reply::Got("2")).calls(6.0, "2", Reply::Lost("3"));
    let from_5 = || story().with_request(5.0, 8.0);
    from_5().calls(12.9, "2", Reply::InvalidGrant).breaks("not settled");
    from_5().calls(13.1, "2", Reply::InvalidGrant).resends("(ii) the last resort");
    // The sender may be another request.
    for other in [4.0, 7.0] {
        let settled = from_5().with_request(other, 8.0).calls(12.6, "2", Reply::InvalidGrant);
        if other < 5.0 { settled.resends("(ii) the last resort") } else { settled.breaks("not settled") }
    }
    let later = || story().with_request(6.5, 8.0).with_request(2.0, 3.4);
    later().calls(12.5, "2", Reply::InvalidGrant).resends("(ii) the last resort");
}

#[test]
fn a_dead_access_token_is_nothing_to_lose() {
    let mut story = Story::new().calls(0.0, "1", Reply::Got("2")).calls(3.0, "2", Reply::Lost("3"));
    let died_at = story.at(4.0);
    story.record.dead.insert(Fingerprint::of("access with 2"), died_at);
    story.calls(8.5, "2", Reply::InvalidGrant).resends("(ii) the last resort");
}

#[test]
fn an_error_503_settles_a_call_sooner_but_not_an_earlier_one() {
    let story = || Story::new().calls(0.0, "1", Reply::Unavailable);
    story().calls(2.0, "1", Reply::Got("2")).breaks("not settled");
    story().calls(2.5, "1", Reply::Got("2")).resends("(ii) the last resort");
    let twice = Story::new().calls(0.0, "1", Reply::Lost("2")).calls(0.5, "1", Reply::Unavailable);
    assert_eq!(twice.calls(3.5, "1", Reply::InvalidGrant).verdict().broken.len(), 2);
}

#[test]
fn a_token_that_the_server_kept_may_be_sent_again() {
    let reason = "(iii) the server kept it, or did nothing";
    Story::new().calls(0.0, "1", Reply::Got("1")).calls(1.0, "1", Reply::Got("1")).resends(reason);
    Story::new().calls(0.0, "1", Reply::InvalidClient).calls(1.0, "1", Reply::Got("2")).resends(reason);
}

#[test]
fn a_refused_token_is_sent_again_only_after_a_new_secret() {
    let story = || Story::new().calls(0.0, "1", Reply::InvalidGrant);
    story().calls(60.0, "1", Reply::InvalidGrant).breaks("the server had refused it");
    story().with_new_secret(30.0).calls(60.0, "1", Reply::InvalidGrant).resends("(iv) a new secret");
    // Frozen just after it sent the call, and for longer than saving takes: the verdict was not saved.
    let frozen = story().with_frozen_request(-0.1, 4.0);
    frozen.calls(60.0, "1", Reply::InvalidGrant).resends("(ii) the last resort");
}

#[test]
fn a_token_of_a_repairable_grant_is_never_sent_again() {
    let mut story = Story::new().calls(0.0, "1", Reply::Lost("2")).calls(60.0, "1", Reply::InvalidGrant);
    story.rules.by_person = false;
    story.breaks("a login repairs the grant");
}

#[test]
fn a_lost_grant_needs_a_call_whose_reply_was_lost() {
    let lost = |story: Story| story.calls(19.0, "3", Reply::InvalidGrant).refuses(20.0, "grant_lost");
    lost(Story::new().calls(0.0, "1", Reply::Got("2"))).breaks("lost without need");
    lost(Story::new().calls(0.0, "1", Reply::Unavailable)).breaks("lost without need");
    assert_eq!(lost(Story::new().calls(0.0, "1", Reply::Lost("2"))).verdict().grants_lost, 1);
    lost(Story::new().with_grace(60).calls(0.0, "1", Reply::Lost("2"))).breaks("lost without need");
    let before = Story::new().calls(0.0, "1", Reply::Lost("2")).with_new_secret(10.0);
    lost(before).breaks("grant 1 was lost without need");
    let stale = || Story::new().with_new_secret(10.0);
    assert_eq!(stale().refuses(12.0, "grant_lost").verdict().broken, Vec::<String>::new());
    stale().refuses(41.0, "grant_lost").breaks("grant 1 was lost without need");
}

#[test]
fn a_caller_is_refused_only_while_no_token_is_usable() {
    let story = || Story::new().calls(0.0, "1", Reply::Got("2")).answers(1.0, "2");
    story().refuses(9.0, "upstream_unavailable").breaks("upstream_unavailable, though");
    // Less than a second is not handed out.
    assert_eq!(story().refuses(10.5, "upstream_unavailable").verdict().refused, 1);
    let mut dead = story();
    dead.record.dead.insert(Fingerprint::of("access with 2"), dead.at(8.0));
    assert_eq!(dead.refuses(9.0, "upstream_unavailable").verdict().refused, 1);
    story().refuses(11.0, "internal").breaks("a defect");
}

#[test]
fn a_token_is_handed_out_for_no_longer_than_it_lives() {
    let story = Story::new().calls(0.0, "1", Reply::Got("2"));
    story.answers(2.5, "2").breaks("live too long");
}
