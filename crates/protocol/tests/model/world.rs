//! One state of the model: the clock, what is stored, the upstream, and the instances.

use crate::{
    instance::{Instance, Request, UnderLease},
    setting::{Beginning, FIRST, START, Setting},
};
use protocol::{
    Account, Credentials, Draw, Expiry, Generation, Grant, Granted, Holder, LoginLimiter, Memory, Origin,
    Pair, Secret, SecretVersion, Timestamp, Version,
};
use std::time::Duration;

/// Everything there is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    /// The true time.
    pub now: Timestamp,
    /// The accounts.
    pub accounts: Vec<AccountWorld>,
    /// The fleet's ledger.
    pub limiter: LoginLimiter,
    /// Every pair that the upstream has issued. Tokens are named by their place here.
    pub sessions: Vec<Session>,
    /// When logins arrived, or will have.
    pub arrivals: Vec<Timestamp>,
    /// The instances.
    pub instances: Vec<Instance>,
    /// The current version of every account's secret.
    pub secret: usize,
    /// Whether the table is out of reach for everybody.
    pub outage: bool,
    /// What may still go wrong.
    pub faults_left: u8,
    /// How often instances may still be paused.
    pub pauses_left: u8,
    /// The first invariant that was broken. Nothing follows.
    pub broken: Option<Invariant>,
}

/// One account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AccountWorld {
    /// The stored record.
    pub record: Account,
    /// Which session each generation was seen to name, in the record or in an answer.
    pub named: Vec<(Generation, usize)>,
    /// Logins that have left.
    pub logins: usize,
    /// Logins that may have left by now, by what has happened (I6).
    pub allowed: usize,
    /// The secret version whose refusal was written down last.
    pub refused: Option<SecretVersion>,
    /// Until when no grant is to leave, since one has failed and that was written down.
    pub rests_until: Option<Timestamp>,
    /// What pairs are called instead of their fence, where that guard is taken away.
    pub renamed: Vec<(Generation, Generation)>,
}

/// A pair, as the upstream knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Session {
    /// When the access token dies.
    pub ends: Timestamp,
    /// Whether the access token was neither revoked nor withdrawn by the upstream itself.
    pub access: bool,
    /// Whether the refresh token was neither traded nor revoked.
    pub refresh: bool,
    /// How often the refresh token came.
    pub refreshes: u8,
    /// Whether a caller has it.
    pub handed_out: bool,
}

/// What must hold. The numbers are those of `docs/PROTOCOL.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Invariant {
    /// I1, the first half.
    TooManyLoginsInAMinute,
    /// I1, the second half.
    UnpaidLogin,
    /// I2.
    RefreshTokenSentTwice,
    /// I3, the first half.
    OlderPairOverNewer,
    /// I3, the second half.
    GenerationNamesTwoPairs,
    /// I4.
    ExpiredTokenHandedOut,
    /// I5.
    ParkedVersionSent,
    /// I6 and I8.
    NeedlessLogin,
    /// I8, of an upstream that fails: how often it is called depends on time, not on how many ask.
    HammeredUpstream,
    /// I7.
    WrongFailure,
    /// A token that is stored, or that a caller has, is not to be revoked as an orphan.
    LiveTokenRevoked,
}

impl AccountWorld {
    /// What a pair is called: by its fence, as long as it was not renamed.
    pub fn called(&self, fence: Generation) -> Generation {
        let renamed = self.renamed.iter().find(|(known, _)| *known == fence);
        renamed.map_or(fence, |(_, name)| *name)
    }
}

impl World {
    /// A world in which nothing has happened yet.
    pub fn new(setting: &Setting, beginnings: &[Beginning]) -> Self {
        let mut sessions = Vec::new();
        let accounts = beginnings.iter().map(|beginning| begin(*beginning, &mut sessions)).collect();
        let instance = Instance {
            at: None,
            memory: vec![Cache::default(); beginnings.len()],
            begun: 0,
            drawn: 0,
            late: None,
        };
        Self {
            now: START,
            accounts,
            limiter: LoginLimiter::default(),
            sessions,
            arrivals: Vec::new(),
            instances: vec![instance; setting.clocks.len()],
            secret: 1,
            outage: false,
            faults_left: setting.faults,
            pauses_left: setting.pauses,
            broken: None,
        }
    }

    /// The present, by the clock of an instance.
    pub fn clock(&self, setting: &Setting, who: usize) -> Timestamp {
        self.now.plus(Duration::from_secs(setting.clocks[who]))
    }

    /// The next draw of an instance: one that nobody else ever draws, though all of them are as good as equal.
    pub fn draw(&self, setting: &Setting, who: usize) -> Draw {
        let unique = who as u64 * DRAWS + self.instances[who].drawn;
        Draw(if setting.eager { unique } else { u64::MAX - unique })
    }

    /// Which instance drew a name.
    pub fn who_drew(setting: &Setting, name: Holder) -> usize {
        usize::try_from(numbered(setting, name) / DRAWS).expect("an instance")
    }

    /// The request that drew a name, if it is neither dead nor done.
    pub fn request_of(&self, setting: &Setting, name: Holder) -> Option<&Request> {
        let request = self.instances[Self::who_drew(setting, name)].at.as_ref();
        request.filter(|request| numbered(setting, name) % DRAWS >= request.drawn_before)
    }

    /// What an instance has done under the lease that it took last.
    pub fn lease_of(&mut self, who: usize) -> &mut UnderLease {
        &mut self.instances[who].at.as_mut().expect("a request").under_lease
    }

    /// Lets time pass until an instant, rounded up to whole seconds: every pause may be longer than asked for.
    pub fn pass_until(&mut self, instant: Timestamp) {
        let rounded = Timestamp::from_millis(instant.as_millis().div_ceil(1000) * 1000);
        self.now = self.now.max(rounded);
    }

    /// A new pair.
    pub fn issue(&mut self, life: Duration) -> Granted {
        let number = self.sessions.len();
        let ends = self.now.plus(life);
        self.sessions.push(Session { ends, access: true, refresh: true, refreshes: 0, handed_out: false });
        Granted {
            access_token: Secret::new(format!("access {number}")),
            refresh_token: Some(Secret::new(format!("refresh {number}"))),
            access_expiry: Expiry::In(life),
            refresh_expiry: Expiry::Unknown,
        }
    }

    /// A generation was seen with a pair: the same as ever?
    pub fn name(&mut self, account: usize, generation: Generation, place: usize) {
        let generation = self.accounts[account].called(generation);
        let named = &mut self.accounts[account].named;
        let known = named.iter().find(|(known, _)| *known == generation).copied();
        if known.is_none() {
            named.push((generation, place));
            named.sort_unstable();
        }
        let same = known.is_none_or(|(_, known)| known == place);
        self.demand(same, Invariant::GenerationNamesTwoPairs);
    }

    /// Notes that an invariant is broken, unless one is already.
    pub fn demand(&mut self, holds: bool, invariant: Invariant) {
        if !holds {
            self.broken.get_or_insert(invariant);
        }
    }
}

fn numbered(setting: &Setting, name: Holder) -> u64 {
    if setting.eager { name.0 } else { u64::MAX - name.0 }
}

/// The numbers that one instance may draw. All of them together are fewer than a draw's fraction can tell apart.
const DRAWS: u64 = 128;

/// The place of a token among the sessions.
pub fn session_of(token: &Secret) -> usize {
    token
        .expose()
        .rsplit(' ')
        .next()
        .and_then(|number| number.parse().ok())
        .expect("a token of this upstream")
}

/// The current credentials.
pub fn credentials(version: usize) -> Credentials {
    Credentials {
        version: SecretVersion(version.to_string()),
        email: Secret::from("email"),
        password: Secret::from("password"),
        client: None,
        origin: Origin::default(),
    }
}

fn begin(beginning: Beginning, sessions: &mut Vec<Session>) -> AccountWorld {
    let Beginning::Pair { left, access, refresh } = beginning else {
        return AccountWorld { allowed: 1, ..AccountWorld::default() };
    };
    let number = sessions.len();
    let expires_at = START.plus(Duration::from_secs(left));
    sessions.push(Session { ends: expires_at, access, refresh, refreshes: 0, handed_out: true });
    let pair = Pair {
        generation: FIRST,
        access_token: Secret::new(format!("access {number}")),
        refresh_token: Some(Secret::new(format!("refresh {number}"))),
        refresh_token_consumed: false,
        issued_at: expires_at.minus(Duration::from_secs(7 * 86_400)),
        expires_at,
        refresh_expires_at: None,
        obtained_by: Grant::Login,
        replaces: None,
        origin: Origin::default(),
        dead: false,
    };
    AccountWorld {
        record: Account { version: Version(FIRST.0), pair: Some(pair), ..Account::default() },
        named: vec![(FIRST, number)],
        allowed: usize::from(!refresh),
        ..AccountWorld::default()
    }
}
