//! One state, and what the invariants need to know of the past.

use crate::{
    server::{self, Server},
    setting::{GRACE, Initial, START, SecretValue, Setting},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use token_broker_protocol::{
    Account, AccountWrite, Cache, Client, ClientAuth, Context, Credentials, Draw, Effect, Endpoints,
    Fingerprint, Flow, Generation, GrantState, GrantType, Holder, Intent, Login, LoginLimiter, Mark, Moment,
    Origin, Pair, Predecessor, RefreshToken, SecretVersion, Timestamp, UpstreamUrl, Usage, Version, testing,
};

/// The generation of a pair that a record begins with.
const FIRST: Generation = Generation(7);

/// One state of the model.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    /// The true time.
    pub(crate) now: Timestamp,
    pub(crate) record: Account,
    pub(crate) limiter: LoginLimiter,
    pub(crate) server: Server,
    /// Calls that may still arrive. Their replies are lost.
    pub(crate) late: Vec<LateCall>,
    pub(crate) instances: Vec<Instance>,
    /// The current version of the secret.
    pub(crate) secret: usize,
    pub(crate) faults_left: u8,
    pub(crate) pauses_left: u8,
    /// The tokens that have left so far, except in calls that were certainly not carried out.
    pub(crate) sends: Vec<Sent>,
    /// The access token that each generation was seen with.
    pub(crate) generations: Vec<(Generation, usize)>,
    /// The refresh tokens that the server has carried out a call with, and whose successor was not saved in time.
    pub(crate) uses: BTreeMap<usize, Use>,
    /// The families that the server ended as the rule allows.
    pub(crate) excused: BTreeSet<usize>,
    /// An operator's confirmed revocation has begun.
    pub(crate) is_revoked: bool,
    /// The first property that was violated. Such a state has no successors.
    pub(crate) violated: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LateCall {
    pub(crate) token: usize,
    pub(crate) right_client: bool,
    pub(crate) until: Timestamp,
}

/// The server has carried out a call with a refresh token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Use {
    /// The reply was lost, or its pair was saved only after the mark had settled.
    pub(crate) is_lost: bool,
    /// A fault or a pause has followed, so that an attempt within the grace period may have failed too.
    pub(crate) struck_again: bool,
}

/// A refresh token that has left.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Sent {
    pub(crate) token: usize,
    pub(crate) at: Timestamp,
    /// It arrives before this instant.
    pub(crate) until: Timestamp,
    /// The mark has settled, by every clock: another attempt may send the token.
    pub(crate) settled_at: Timestamp,
    /// The access token in the reply.
    pub(crate) brought: Option<usize>,
    /// The version of the secret that got `invalid_grant`. `None` if the token may have been used.
    pub(crate) refused: Option<SecretVersion>,
}

/// One process of the function.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Instance {
    pub(crate) running: Option<Running>,
    pub(crate) cache: Cache,
    pub(crate) begun: usize,
    pub(crate) drawn: u64,
    /// A write that is still on its way, and whose reply is lost.
    pub(crate) delayed: Option<Effect>,
}

/// A request in progress.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Running {
    pub(crate) flow: Flow,
    pub(crate) effect: Effect,
    pub(crate) intent: Intent,
    /// When the caller is gone, in true time.
    pub(crate) deadline: Timestamp,
    /// The last reply of the server was a 5xx, or one after which the mark is taken back.
    pub(crate) replied: Replied,
}

/// The kind of the last reply, for the guards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Replied {
    #[default]
    Otherwise,
    With5xx,
    NotCarriedOut,
}

impl World {
    pub(crate) fn new(setting: &Setting) -> Self {
        let mut server = Server::default();
        let people = setting.secrets.iter().map(|secret| secret.bootstrap + 1).max().unwrap_or_default();
        for _ in 0..people {
            server.grant();
        }
        let mut world = Self {
            now: START,
            record: Account::default(),
            limiter: LoginLimiter::default(),
            server,
            late: Vec::new(),
            instances: vec![Instance::default(); setting.clocks.len()],
            secret: 1,
            faults_left: setting.faults,
            pauses_left: setting.pauses,
            sends: Vec::new(),
            generations: Vec::new(),
            uses: BTreeMap::new(),
            excused: BTreeSet::new(),
            is_revoked: false,
            violated: None,
        };
        match setting.initial {
            Initial::Absent => {}
            Initial::Pair(left) => world.begin_with(setting, left),
            Initial::InDoubt(left) => {
                world.begin_with(setting, left);
                world.use_in_vain(setting);
                world.uses.values_mut().for_each(|it| it.is_lost = true);
            }
            Initial::Unsaved(left) | Initial::Twin(left) => {
                world.begin_with(setting, left);
                let brought = world.use_in_vain(setting);
                if !setting.server.rotates {
                    // The second instance knows that there is no successor.
                    world.sends.pop();
                }
                let by = world.record.grant.as_ref().unwrap().held.mark.unwrap().by;
                let unsaved = world.obtained(brought, Generation(12), by);
                let expected = Version(12);
                world.instances[1].cache.pending_write = Some(AccountWrite { expected, next: unsaved });
                if let Initial::Twin(_) = setting.initial {
                    world.record = world.obtained(brought, Generation(9), Holder(1 << 41));
                    world.generations.push((Generation(9), brought.1));
                    world.uses.clear();
                }
                world.record.version = Version(13);
            }
        }
        world
    }

    /// A pair of the first person's grant, whose bootstrap token was used.
    fn begin_with(&mut self, setting: &Setting, seconds_left: u64) {
        let resend_within = setting.grace();
        let refresh = self.server.add_refresh_token(0);
        let access = self.server.add_access_token(0, START.plus(Duration::from_secs(seconds_left)));
        self.server.refresh_tokens[0].used_at = Some(START.minus(GRACE * 2));
        self.server.refresh_tokens[0].successor = Some((refresh, access));
        self.sends.push(Sent {
            token: 0,
            at: START.minus(GRACE * 2),
            until: START.minus(GRACE),
            settled_at: START.minus(GRACE),
            brought: Some(access),
            refused: None,
        });
        let bootstrap = Fingerprint::of(&server::refresh_token(0));
        self.record = Account {
            version: Version(FIRST.0),
            pair: Some(Pair { refresh_token: Some(refresh_token(refresh)), ..pair(&self.server, access) }),
            grant: Some(Box::new(GrantState {
                sent: vec![bootstrap],
                resend_within,
                ..GrantState::default()
            })),
            ..Account::default()
        };
        self.generations.push((FIRST, access));
    }

    /// The record with the pair that the held token obtained.
    fn obtained(&self, brought: (usize, usize), generation: Generation, by: Holder) -> Account {
        let mut record = self.record.clone();
        let held = record.pair.as_ref().unwrap().refresh_token.clone().unwrap();
        record.version = Version(generation.0 + 1);
        record.pair = Some(Pair {
            generation,
            refresh_token: Some(refresh_token(brought.0)),
            replaces: Some(FIRST),
            ..pair(&self.server, brought.1)
        });
        let grant = record.grant.as_mut().unwrap();
        grant.held = Usage::default();
        grant.predecessor = Some(Predecessor { token: Fingerprint::of(&held.token), by });
        record
    }

    /// A minute ago, the server carried out a refresh whose pair was not saved.
    fn use_in_vain(&mut self, setting: &Setting) -> (usize, usize) {
        let held = self.record.pair.as_ref().unwrap().refresh_token.clone().unwrap().token;
        let number = server::number_of(&held);
        let at = START.minus(Duration::from_secs(60));
        let by = Holder(1 << 40);
        let settled_at = START.minus(Duration::from_secs(10));
        let until = at.plus(Duration::from_secs(10));
        self.server.refresh(setting.server, number, at);
        let newest = self.server.access_tokens.len() - 1;
        self.sends.push(Sent { token: number, at, until, settled_at, brought: Some(newest), refused: None });
        if setting.server.rotates {
            self.uses.insert(number, Use::default());
        }
        self.record.version = Version(9);
        self.record.grant.as_mut().unwrap().held.mark = Some(Mark { at, settled_at, by });
        self.server.refresh_tokens[number].successor.unwrap_or((number, newest))
    }

    /// The pair that a call with this token returned is lost.
    pub(crate) fn lose(&mut self, token: usize) {
        if let Some(it) = self.uses.get_mut(&token) {
            it.is_lost = true;
        }
    }

    /// The present by an instance's clock.
    pub(crate) fn clock(&self, setting: &Setting, who: usize) -> Timestamp {
        Timestamp::from_millis(self.now.as_millis().saturating_add_signed(setting.clocks[who] * 1000))
    }

    /// The true time at which an instance's clock says this.
    pub(crate) fn true_time(setting: &Setting, who: usize, at: Timestamp) -> Timestamp {
        Timestamp::from_millis(at.as_millis().saturating_add_signed(-setting.clocks[who] * 1000))
    }

    pub(crate) fn context(&self, setting: &Setting, who: usize) -> Context<'static> {
        const POLICY: &token_broker_protocol::Policy = &Setting::POLICY;
        let draw = Draw(1 + who as u64 * 128 + self.instances[who].drawn);
        let uptime = Moment::of_agreeing_clocks(self.now).uptime;
        Context { uptime, ..Context::new(POLICY, self.clock(setting, who), draw) }
    }

    /// The instance that drew a holder.
    pub(crate) fn who_drew(holder: Holder) -> Option<usize> {
        (holder.0 < 1024).then(|| usize::try_from((holder.0 - 1) / 128).unwrap())
    }

    /// Lets time pass until an instant, rounded up to whole seconds. Calls that have not arrived by then never do.
    pub(crate) fn pass_until(&mut self, instant: Timestamp) {
        let rounded = Timestamp::from_millis(instant.as_millis().div_ceil(1000) * 1000);
        self.now = self.now.max(rounded);
        let now = self.now;
        self.late.retain(|call| call.until > now);
    }

    pub(crate) fn demand(&mut self, holds: bool, property: &'static str) {
        if !holds {
            self.violated.get_or_insert(property);
        }
    }
}

fn pair(server: &Server, access: usize) -> Pair {
    let expires_at = server.access_tokens[access].expires_at;
    Pair {
        access_token: server::access_token(access),
        issued_at: expires_at.minus(Setting::LIFETIME),
        origin: origin(),
        ..testing::pair(expires_at)
    }
}

fn refresh_token(number: usize) -> RefreshToken {
    RefreshToken {
        token: server::refresh_token(number),
        expires_at: None,
        consumed: false,
        earlier_life: None,
    }
}

fn origin() -> Origin {
    let url = |path| UpstreamUrl::parse(&format!("https://as.example/{path}")).unwrap();
    let (revoke_url, probe_url) = (Some(url("revoke")), None);
    Origin::OAuth2(Endpoints { token_url: url("token"), revoke_url, probe_url })
}

/// A version of the secret, as the instances read it.
pub(crate) fn credentials(setting: &Setting, version: usize) -> Credentials {
    let SecretValue { bootstrap, .. } = setting.secrets[version - 1];
    let client = Client {
        id: "client".into(),
        secret: None,
        auth: ClientAuth::Basic,
        scope: None,
        parameters: Vec::new(),
        answer_fields: Vec::new(),
        refresh_ahead: None,
        resend_within: setting.grace(),
    };
    let grant = GrantType::RefreshToken { bootstrap: server::refresh_token(bootstrap) };
    Credentials {
        version: SecretVersion(version.to_string()),
        origin: origin(),
        login: Login::OAuth2 { client, grant },
    }
}
