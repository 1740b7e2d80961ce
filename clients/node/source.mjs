/**
 * Tokens, cached by account and renewed before they expire.
 * `crates/contract/behaviour.json` has the rules that all clients share.
 */

import { brokerError, InvalidRequestError, TokenBrokerError } from "./errors.mjs";
import { agent, SENDABLE } from "./transports.mjs";

const ACCOUNT = /^[a-z0-9][a-z0-9-]{0,62}$/;

// The default minimum; half of the lifetime of tokens that live for less than twice this.
const DEFAULT_MIN_TTL_SECONDS = 60;
// The broker's own limit for `expires_in`. A longer one is a defect.
const MAX_LIFETIME_SECONDS = 7 * 86_400;
// A round trip of up to this long does not count against `minTtlSeconds`. The broker's own margin covers it.
const ROUND_TRIP_MS = 2_000;
// How long a caller waits in all while there is an unexpired token.
const WAIT_SECONDS = 5;
// How long a caller waits in all for the first token, and for a report: the broker may have to log in.
const LOGIN_WAIT_SECONDS = 20;
// A call to the broker that takes longer is given up.
const CALL_SECONDS = 30;
// How far the clock may step back before remembered times are no longer trusted.
const CLOCK_STEP_MS = 5_000;
// For this long after a failed call, callers get its error again. It doubles with each failure in a row.
const FIRST_COOLDOWN_MS = 250;
const LONGEST_COOLDOWN_MS = 10_000;
// The longest pause between two failed renewals in the background.
const LONGEST_RENEWAL_PAUSE_MS = 300_000;
// The pause after a renewal that returned an older token. An instance of the broker may lag behind for this long.
const OLDER_TOKEN_MS = 30_000;
// After the broker has found a reported token alive, the same generation is not reported again for this long.
const REPORT_MS = 5_000;
// A limit, so that a caller that keeps using new account names cannot fill the memory.
const MOST_ACCOUNTS = 1_000;

class Token {
    // A private field: no inspection, serialisation or copy shows it.
    #accessToken;
    #extra;

    constructor(accessToken, generation, account, requestedAt, expiresAt, extra) {
        this.#accessToken = accessToken;
        this.#extra = extra;
        this.generation = generation;
        this.account = account;
        this.requestedAt = requestedAt;
        this.expiresAt = expiresAt;
        Object.freeze(this);
    }

    get accessToken() {
        return this.#accessToken;
    }

    get extra() {
        return this.#extra;
    }

    get authorization() {
        return `Bearer ${this.#accessToken}`;
    }

    toString() {
        return `Token(account=${this.account}, generation=${this.generation})`;
    }

    // Without this, `console.log` with the option `getters` calls the getters above.
    [Symbol.for("nodejs.util.inspect.custom")](_depth, options, inspect) {
        return `Token ${inspect({ ...this }, options)}`;
    }
}

const lifetimeMs = (token) => token.expiresAt - token.requestedAt;

// ---- Demands: {minTtl, rejected}, both in the broker's units or undefined

const isPlain = ({ minTtl, rejected }) => minTtl === undefined && rejected === undefined;
const isSame = (one, other) => one.minTtl === other.minTtl && one.rejected === other.rejected;

// Whether the result of a call for `other` answers `demand` too.
function isCovered(demand, other) {
    const covers = (wanted, asked) => wanted === undefined || asked >= wanted;
    return covers(demand.minTtl, other.minTtl) && covers(demand.rejected, other.rejected);
}

function wantedMs({ minTtl }, token) {
    return minTtl === undefined ? Math.min(DEFAULT_MIN_TTL_SECONDS * 1000, lifetimeMs(token) / 2) : minTtl * 1000;
}

// In seconds, rounded up: the broker's margin covers one, and a caller that asks for the longest lifetime gets that number.
function isMet(demand, token, now) {
    const left = Math.ceil((token.expiresAt - now) / 1000);
    return left > 0 && left >= Math.floor(wantedMs(demand, token) / 1000);
}

// The token that a call for this demand has just returned, if it lasts long enough.
function checked(demand, token, now) {
    const left = token.expiresAt - now;
    const wanted = wantedMs(demand, token);
    if (left > 0 && lifetimeMs(token) >= wanted && left + ROUND_TRIP_MS >= wanted) return token;
    const lasts = `the token lasts only ${Math.ceil(left / 1000)} s; ${Math.ceil(wanted / 1000)} s were requested`;
    throw brokerError("token_expires_too_soon", lasts);
}

/** What the source knows about one account, and the decisions that follow. It has no clock. */
class Entry {
    token;
    renewAt = 0;
    // The reported generation that the broker last answered with this token instead of a newer one, and when.
    confirmed = { generation: -1, at: 0 };
    // {error, at, until: callers get the error, renewAfter: nothing is renewed until then, inARow}
    failure;
    call;

    answer(demand, now) {
        const { token, confirmed } = this;
        if (!token || token.requestedAt > now + CLOCK_STEP_MS || !isMet(demand, token, now)) return undefined;
        const wasConfirmed = confirmed.generation === demand.rejected && isWithin(REPORT_MS, confirmed.at, now);
        return token.generation <= demand.rejected && !wasConfirmed ? undefined : token;
    }

    isRenewalDue(now) {
        const pause = (this.failure?.renewAfter ?? 0) - now;
        return now >= this.renewAt && !(pause > 0 && pause <= 2 * LONGEST_RENEWAL_PAUSE_MS);
    }

    throwFailure(now) {
        const pause = (this.failure?.until ?? 0) - now;
        if (pause <= 0 || pause > 2 * LONGEST_COOLDOWN_MS) return;
        const { error, at } = this.failure;
        if (!(error instanceof TokenBrokerError)) throw error;
        const { code, description, requestId } = error;
        const retryAfter = error.retryAfter && Math.ceil(error.retryAfter - (now - at) / 1000);
        throw brokerError(code, description, { retryAfter, requestId });
    }

    store(demand, token, now, draw) {
        this.failure = undefined;
        const { token: known } = this;
        // A call that was overtaken brings an older token, and so does an instance of the broker that is behind. But if
        // the API refused the known token, and the broker answers that with an older one, its table was restored.
        const isOlder = known?.generation > token.generation && isMet(demand, known, now);
        if (isOlder && !(demand.rejected >= known.generation)) {
            this.renewAt = Math.max(this.renewAt, now + OLDER_TOKEN_MS);
            return;
        }
        this.token = token;
        // Up to a tenth earlier, so that a fleet that started together does not renew together.
        this.renewAt = token.requestedAt + ((lifetimeMs(token) * 2) / 3) * (1 - draw / 10);
        const isAlive = token.generation <= demand.rejected;
        this.confirmed = isAlive ? { generation: demand.rejected, at: now } : { generation: -1, at: 0 };
    }

    fail(demand, error, now, draw) {
        // An error in one caller's options must not delay others.
        if (!isPlain(demand) && error instanceof InvalidRequestError) return;
        const inARow = this.failure ? this.failure.inARow + 1 : 0;
        const backoff = FIRST_COOLDOWN_MS * 2 ** Math.min(inARow, 16);
        const retryAfter = (error?.retryAfter ?? 0) * 1000;
        const cooldown = retryAfter || (Math.min(backoff, LONGEST_COOLDOWN_MS) * (1 + draw)) / 2;
        const pause = Math.min(Math.max(retryAfter, backoff), LONGEST_RENEWAL_PAUSE_MS) * (1 + draw / 10);
        const until = now + Math.min(cooldown, LONGEST_COOLDOWN_MS);
        this.failure = { error, at: now, until, renewAfter: now + pause, inARow };
    }
}

// False after a freeze, and after the clock stepped back.
function isWithin(milliseconds, since, now) {
    return now - since >= -CLOCK_STEP_MS && now - since < milliseconds;
}

/** Waits this many seconds in all: by the wall clock, which runs during a freeze, and by timers, because it may step back. */
class Patience {
    #seconds;
    #now;
    #end;

    constructor(seconds, now) {
        this.#seconds = seconds;
        this.#now = now;
        this.#end = now() + seconds * 1000;
    }

    /** Whether `isDone` after `promise` has settled; false if the time is up. */
    async outlasts(promise, isDone) {
        while (!isDone() && this.#seconds > 0 && this.#now() < this.#end) {
            const began = performance.now();
            let timer;
            const tick = Math.min(1, this.#seconds) * 1000;
            await Promise.race([promise, new Promise((resolve) => (timer = setTimeout(resolve, tick)))]);
            clearTimeout(timer);
            this.#seconds -= (performance.now() - began) / 1000;
        }
        return isDone();
    }
}

class TokenSource {
    #transport;
    #now;
    #random;
    #warn;
    #entries = new Map();

    constructor({ transport = agent(), now = Date.now, random = Math.random, warn = printWarning } = {}) {
        this.#transport = transport;
        // The wall clock: a monotonic clock may stand still while Lambda has frozen the environment.
        this.#now = now;
        this.#random = random;
        this.#warn = warn;
    }

    get({ account = "default", minTtlSeconds } = {}) {
        return this.#obtain(account, { minTtl: minTtlSeconds });
    }

    report(generation, { account = "default", minTtlSeconds } = {}) {
        return this.#obtain(account, { minTtl: minTtlSeconds, rejected: generation });
    }

    async #obtain(account, demand) {
        check(account, demand.minTtl);
        const hasToken = this.#entries.get(account)?.token?.expiresAt > this.#now();
        const limit = hasToken && demand.rejected === undefined ? WAIT_SECONDS : LOGIN_WAIT_SECONDS;
        const patience = new Patience(limit, this.#now);
        for (;;) {
            const { token, call } = this.#lookUp(account, demand);
            if (token) return token;
            if (!(await patience.outlasts(call.ended, () => call.outcome))) {
                const description = `no answer from the broker within ${limit} s; try again`;
                throw brokerError("broker_unavailable", description, { retryAfter: 1 });
            }
            const { token: brought, error } = call.outcome;
            if (brought) {
                if (isCovered(demand, call.demand)) return checked(demand, brought, this.#now());
            } else if (isSame(demand, call.demand) || !(error instanceof InvalidRequestError)) {
                throw error;
            }
        }
    }

    // The cached token if it answers the demand, else the call to wait for.
    #lookUp(account, demand) {
        const now = this.#now();
        const entry = this.#entries.get(account) ?? this.#add(account);
        const token = entry.answer(demand, now);
        if (!token) entry.throwFailure(now);
        const isInFlight = entry.call && isWithin(CALL_SECONDS * 1000, entry.call.startedAt, now);
        if (!isInFlight && (!token || entry.isRenewalDue(now))) {
            const call = { demand: token ? {} : demand, startedAt: now };
            entry.call = call;
            call.ended = this.#perform(account, entry, call);
        }
        return { token, call: entry.call };
    }

    #add(account) {
        const excess = this.#entries.size + 1 - MOST_ACCOUNTS;
        if (excess > 0) {
            const idle = [...this.#entries].filter(([, { call }]) => !call);
            idle.sort(([, one], [, other]) => (one.token?.expiresAt ?? 0) - (other.token?.expiresAt ?? 0));
            for (const [name] of idle.slice(0, excess)) this.#entries.delete(name);
        }
        const entry = new Entry();
        this.#entries.set(account, entry);
        return entry;
    }

    // Never rejects: a renewal in the background may have no waiting caller.
    async #perform(account, entry, call) {
        const outcome = await this.#fetch(account, call);
        const now = this.#now();
        const { token, error } = outcome;
        const isCurrent = entry.call === call;
        if (isCurrent) entry.call = undefined;
        if (token) {
            entry.store(call.demand, token, now, this.#random());
        } else if (isCurrent && isWithin(CALL_SECONDS * 1000 + CLOCK_STEP_MS, call.startedAt, now)) {
            // A call that was replaced, or interrupted by a freeze, says nothing about the next one.
            entry.fail(call.demand, error, now, this.#random());
        }
        call.outcome = outcome;
        if (!token && isPlain(call.demand) && entry.token?.expiresAt > now) {
            const reason = error instanceof TokenBrokerError ? error.message : error?.name;
            this.#warn(`token-broker: the token of account ${account} is valid, but its renewal failed: ${reason}`);
        }
    }

    async #fetch(account, { demand, startedAt }) {
        let outcome;
        const request = { account, minTtlSeconds: demand.minTtl, rejectedGeneration: demand.rejected };
        const answered = (async () => this.#transport.fetch(request))().then(
            // The token's time counts from when the call began. If the clock stepped back, the earlier instant counts.
            (answer) => (outcome = parse(answer, account, Math.min(startedAt, this.#now()))),
            (error) => (outcome = { error }),
        );
        const isInTime = await new Patience(CALL_SECONDS, this.#now).outlasts(answered, () => outcome);
        return isInTime ? outcome : { error: brokerError("broker_unavailable", `no answer within ${CALL_SECONDS} s`) };
    }
}

export function printWarning(message) {
    console.warn(message);
}

export function createTokenSource(options) {
    return new TokenSource(options);
}

function check(account, minTtl) {
    if (typeof account !== "string" || !ACCOUNT.test(account)) {
        const expected = "a name of 1 to 63 lower-case letters, digits and hyphens";
        throw brokerError("invalid_request", `\`account\` must be ${expected}`);
    }
    if (minTtl !== undefined && !(Number.isInteger(minTtl) && minTtl >= 0)) {
        throw brokerError("invalid_request", "`minTtlSeconds` must be a whole number");
    }
}

function parse(answer, account, requestedAt) {
    const { access_token: accessToken, expires_in: expiresIn, generation, account: named = account, extra } = answer ?? {};
    const isToken = typeof accessToken === "string" && SENDABLE.test(accessToken) && named === account;
    const isLifetime = Number.isInteger(expiresIn) && expiresIn > 0 && expiresIn <= MAX_LIFETIME_SECONDS;
    if (!isToken || !isLifetime || !Number.isInteger(generation)) {
        return { error: brokerError("broker_unavailable", "the response is not a token answer") };
    }
    const fields = Object.freeze(extra instanceof Object && !Array.isArray(extra) ? { ...extra } : {});
    const expiresAt = requestedAt + expiresIn * 1000;
    return { token: new Token(accessToken, generation, account, requestedAt, expiresAt, fields) };
}
