//! One state of the model: the true time, the table, the upstream, and the instances.

use crate::{
    instance::{Instance, Running, UnderLease},
    mutations::Guard,
    setting::{FIRST, InitialRecord, Outage, START, Setting},
};
use std::time::Duration;
use token_broker_protocol::{
    Account, Cache, Context, Credentials, Draw, Expiry, Generation, Holder, LoginLimiter, Moment,
    NewRefreshToken, Pair, Policy, RefreshToken, Secret, SecretVersion, StoreClock, Timestamp, TokenResponse,
    Version, testing,
};

/// One state of the model.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    /// The true time.
    pub(crate) now: Timestamp,
    pub(crate) accounts: Vec<AccountState>,
    pub(crate) limiter: LoginLimiter,
    /// Every pair that the upstream has issued. Tokens are named by their index here.
    pub(crate) sessions: Vec<Session>,
    /// When each login arrives upstream, and for which account.
    pub(crate) arrivals: Vec<(Timestamp, usize)>,
    pub(crate) instances: Vec<Instance>,
    /// The current version of every account's secret.
    pub(crate) secret: usize,
    /// What the table refuses now.
    pub(crate) outage: Option<Outage>,
    /// Faults that may still happen.
    pub(crate) faults_left: u8,
    /// Steps of a clock that may still happen.
    pub(crate) steps_left: u8,
    /// Pauses that may still happen.
    pub(crate) pauses_left: u8,
    /// How often sessions may still be ended.
    pub(crate) lost_sessions_left: u8,
    /// The first invariant that was violated. Such a state has no successors.
    pub(crate) violated: Option<Invariant>,
}

/// One account: its stored record, and what the invariants need to know of the past.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct AccountState {
    pub(crate) record: Account,
    /// The session that each generation was seen with, in the record or in an answer.
    pub(crate) generations: Vec<(Generation, usize)>,
    /// Logins that have left.
    pub(crate) logins: usize,
    /// Logins that may have left by now: each fault allows one (I6).
    pub(crate) allowed_logins: usize,
    /// The last secret version whose refusal was recorded, and when it was refused.
    pub(crate) refused: Option<(SecretVersion, Timestamp)>,
    /// No refresh or login may leave before this instant, because one has failed and the failure was recorded.
    pub(crate) cooldown_until: Option<Timestamp>,
    /// When an operator's refresh last sent a call.
    pub(crate) replaced_at: Option<Timestamp>,
    /// The generation that each fence stands for, if the guard that makes them equal is removed.
    pub(crate) renamed: Vec<(Generation, Generation)>,
}

/// A pair, as the upstream knows it.
#[expect(clippy::struct_excessive_bools, reason = "all combinations occur")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Session {
    pub(crate) account: usize,
    /// When it was issued, unless that was before the run.
    pub(crate) issued_at: Option<Timestamp>,
    /// When the access token expires.
    pub(crate) expires_at: Timestamp,
    /// Whether the access token was neither revoked nor withdrawn by the upstream.
    pub(crate) access: bool,
    /// Whether the refresh token was neither consumed nor revoked.
    pub(crate) refresh: bool,
    /// How often the refresh token was sent.
    pub(crate) refreshes: u8,
    /// Whether a caller has the access token.
    pub(crate) handed_out: bool,
    /// Whether an operator has withdrawn it, or the session that it was to replace.
    pub(crate) withdrawn: bool,
}

/// What must hold in every state. The numbers are those of `docs/PROTOCOL.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Invariant {
    /// I1, first half.
    LoginsPerMinute,
    /// I1, second half.
    PermitForEveryLogin,
    /// One account sends at most half of the logins, rounded up.
    AccountShare,
    /// A request acquires no second permit while it has not used the first one.
    PermitsAreUsed,
    /// I2.
    RefreshTokenSentOnce,
    /// I3, first half.
    GenerationsGrow,
    /// I3, second half.
    GenerationNamesOnePair,
    /// I4.
    AnswerIsValid,
    /// I5.
    RejectedSecretIsNotSent,
    /// I6 and I8.
    NoNeedlessLogin,
    /// I8: how often a failing upstream is called depends on time, not on the number of requests.
    CooldownIsKept,
    /// I7.
    FailureHasReason,
    /// However many callers and probes find tokens dead, the number of renewals is bounded.
    RenewalsAreBounded,
    /// An operator's refresh is carried out at most once a minute.
    ReplacedOncePerMinute,
    /// I7: a pause begins when it is written, whatever a clock says.
    PauseBeginsNow,
    /// I7: if nothing fails from now on, requests that run now end, and all callers are served.
    EveryCallerIsServed,
    /// A token that is stored, or that a caller has, is never revoked as an orphan.
    TokenInUseIsNotRevoked,
}

impl Session {
    /// Whether any of its tokens works.
    pub(crate) fn is_alive(&self) -> bool {
        self.access || self.refresh
    }
}

impl AccountState {
    fn new(account: usize, record: InitialRecord, sessions: &mut Vec<Session>) -> Self {
        let InitialRecord::Pair { seconds_left, access, refresh } = record else {
            return Self { allowed_logins: 1, ..Self::default() };
        };
        let number = sessions.len();
        let expires_at = START.plus(Duration::from_secs(seconds_left));
        sessions.push(Session {
            account,
            issued_at: None,
            expires_at,
            access,
            refresh,
            refreshes: 0,
            handed_out: true,
            withdrawn: false,
        });
        let pair = Pair {
            generation: FIRST,
            access_token: access_token(number),
            refresh_token: Some(RefreshToken {
                token: refresh_token(number),
                expires_at: None,
                consumed: false,
                earlier_life: None,
            }),
            ..testing::pair(expires_at)
        };
        Self {
            record: Account { version: Version(FIRST.0), pair: Some(pair), ..Account::default() },
            generations: vec![(FIRST, number)],
            allowed_logins: usize::from(!refresh),
            ..Self::default()
        }
    }

    /// The generation of a pair: its fence, unless it was renamed.
    pub(crate) fn generation_of(&self, fence: Generation) -> Generation {
        let renamed = self.renamed.iter().find(|(known, _)| *known == fence);
        renamed.map_or(fence, |(_, generation)| *generation)
    }
}

impl World {
    pub(crate) fn new(setting: &Setting, records: &[InitialRecord]) -> Self {
        let mut sessions = Vec::new();
        let records = records.iter().enumerate();
        let accounts: Vec<AccountState> =
            records.map(|(account, record)| AccountState::new(account, *record, &mut sessions)).collect();
        let instance = Instance {
            running: None,
            caches: vec![Cache::default(); accounts.len()],
            begun: 0,
            answered: None,
            drawn: 0,
            delayed: None,
            stepped: 0,
            store_clock: None,
        };
        let mut world = Self {
            now: START,
            accounts,
            limiter: LoginLimiter::default(),
            sessions,
            arrivals: Vec::new(),
            instances: vec![instance; setting.clocks.len()],
            secret: 1,
            outage: None,
            faults_left: setting.faults,
            steps_left: setting.steps,
            pauses_left: setting.pauses,
            lost_sessions_left: setting.lost_sessions,
            violated: None,
        };
        for who in 0..world.instances.len() {
            world.start_clock(setting, who);
        }
        world
    }

    /// The process of an instance starts.
    pub(crate) fn start_clock(&mut self, setting: &Setting, who: usize) {
        let started = self.reading(setting, who);
        let margin = setting.policy().clock_margin;
        self.instances[who].store_clock = setting.dated.then(|| StoreClock::new(margin, started));
    }

    /// What an instance reads from its own clocks. The one that never steps is right.
    pub(crate) fn reading(&self, setting: &Setting, who: usize) -> Moment {
        let ahead = setting.clocks[who] + self.instances[who].stepped;
        let wall = Timestamp::from_millis(self.now.as_millis().saturating_add_signed(ahead * 1000));
        Moment { wall, uptime: Moment::of_agreeing_clocks(self.now).uptime }
    }

    /// The present, as an instance knows it.
    pub(crate) fn clock(&self, setting: &Setting, who: usize) -> Timestamp {
        let reading = self.reading(setting, who);
        self.instances[who].store_clock.as_ref().map_or(reading.wall, |clock| clock.present(reading).now)
    }

    /// The true time at which an instance's clock says this.
    pub(crate) fn true_time(&self, setting: &Setting, who: usize, at: Timestamp) -> Timestamp {
        let clock = self.clock(setting, who);
        at.minus(clock.since(self.now)).plus(self.now.since(clock))
    }

    /// A true time by an instance's clock.
    pub(crate) fn by_clock(&self, setting: &Setting, who: usize, at: Timestamp) -> Timestamp {
        let clock = self.clock(setting, who);
        at.plus(clock.since(self.now)).minus(self.now.since(clock))
    }

    /// What a step of an instance depends on.
    pub(crate) fn context<'a>(
        &self,
        setting: &Setting,
        who: usize,
        policy: &'a Policy,
        now: Timestamp,
        draw: Draw,
    ) -> Context<'a> {
        let reading = self.reading(setting, who);
        match &self.instances[who].store_clock {
            Some(clock) => {
                let cx = Context::at_present(policy, clock.present(reading), draw);
                let steady = if setting.without == Some(Guard::SteadyPauses) { now } else { cx.steady };
                Context { now, steady, ..cx }
            }
            None => Context { uptime: reading.uptime, ..Context::new(policy, now, draw) },
        }
    }

    /// The next draw of an instance. No other instance ever draws it, though as fractions all draws are nearly equal.
    pub(crate) fn draw(&self, setting: &Setting, who: usize) -> Draw {
        let unique = who as u64 * DRAWS + self.instances[who].drawn;
        Draw(if setting.early_refresh { unique } else { u64::MAX - unique })
    }

    /// The instance that drew a holder.
    pub(crate) fn who_drew(setting: &Setting, holder: Holder) -> usize {
        usize::try_from(number_of(setting, holder) / DRAWS).expect("an instance")
    }

    /// Whether the request that an instance performs drew a holder.
    pub(crate) fn is_drawn_by(&self, setting: &Setting, who: usize, holder: Holder) -> bool {
        Self::who_drew(setting, holder) == who && self.request_of(setting, holder).is_some()
    }

    /// The request that drew a holder, unless it has ended.
    pub(crate) fn request_of(&self, setting: &Setting, holder: Holder) -> Option<&Running> {
        let running = self.instances[Self::who_drew(setting, holder)].running.as_ref();
        running.filter(|running| number_of(setting, holder) % DRAWS >= running.first_draw)
    }

    /// What an instance did under the lease that it took last.
    pub(crate) fn under_lease(&mut self, who: usize) -> &mut UnderLease {
        &mut self.instances[who].running.as_mut().expect("a request").under_lease
    }

    /// Lets time pass until an instant, rounded up to whole seconds. Every pause may take longer than requested.
    pub(crate) fn pass_until(&mut self, instant: Timestamp) {
        let rounded = Timestamp::from_millis(instant.as_millis().div_ceil(1000) * 1000);
        self.now = self.now.max(rounded);
    }

    /// The upstream issues a new pair.
    pub(crate) fn issue(&mut self, account: usize, lifetime: Duration) -> TokenResponse {
        let number = self.sessions.len();
        let expires_at = self.now.plus(lifetime);
        self.sessions.push(Session {
            account,
            issued_at: Some(self.now),
            expires_at,
            access: true,
            refresh: true,
            refreshes: 0,
            handed_out: false,
            withdrawn: false,
        });
        TokenResponse {
            access_token: access_token(number),
            refresh_token: NewRefreshToken::Token(refresh_token(number)),
            access_expiry: Expiry::In(lifetime),
            refresh_expiry: Expiry::Unknown,
            extra: None,
        }
    }

    /// A pair was seen with a generation, which must be the one that it had before.
    pub(crate) fn check_generation(&mut self, account: usize, fence: Generation, session: usize) {
        let generation = self.accounts[account].generation_of(fence);
        let generations = &mut self.accounts[account].generations;
        let known = generations.iter().find(|(known, _)| *known == generation).copied();
        if known.is_none() {
            generations.push((generation, session));
            generations.sort_unstable();
        }
        let same = known.is_none_or(|(_, known)| known == session);
        self.demand(same, Invariant::GenerationNamesOnePair);
    }

    /// A write now delays the fleet until an instant.
    pub(crate) fn check_pause(&mut self, setting: &Setting, until: Option<Timestamp>) {
        let latest = self.now.plus(LONGEST_PAUSE).plus(setting.clock_difference());
        self.demand(until.is_none_or(|until| until <= latest), Invariant::PauseBeginsNow);
    }

    /// Notes that an invariant is violated, unless one is already.
    pub(crate) fn demand(&mut self, holds: bool, invariant: Invariant) {
        if !holds {
            self.violated.get_or_insert(invariant);
        }
    }
}

/// Every pause in a run is shorter: two refusals of a login, or a full budget.
const LONGEST_PAUSE: Duration = Duration::from_secs(150);

fn number_of(setting: &Setting, holder: Holder) -> u64 {
    if setting.early_refresh { holder.0 } else { u64::MAX - holder.0 }
}

/// The draws of one instance. Those of all instances are too few for a draw's fraction to tell them apart.
const DRAWS: u64 = 128;

fn access_token(session: usize) -> Secret {
    Secret::new(format!("access {session}"))
}

fn refresh_token(session: usize) -> Secret {
    Secret::new(format!("refresh {session}"))
}

/// The index of the session that a token belongs to.
pub(crate) fn session_of(token: &Secret) -> usize {
    let number = token.expose().rsplit(' ').next();
    number.and_then(|number| number.parse().ok()).expect("a token of this upstream")
}

/// The credentials of a secret version.
pub(crate) fn credentials(version: usize) -> Credentials {
    testing::credentials(&version.to_string())
}
