/**
 * Client of token-broker: bearer tokens for the Convirza API, cached by account and renewed ahead of their expiry.
 * The types and their documentation are in `index.d.ts`.
 */

import { createHash, createHmac } from "node:crypto";
import { readFile } from "node:fs/promises";
import http from "node:http";
import https from "node:https";

// ---- Errors

export class TokenBrokerError extends Error {
    constructor(code, description, { retryAfter, requestId } = {}) {
        super(`${code}: ${description}${retryAfter === undefined ? "" : ` (retry_after=${retryAfter})`}`);
        this.name = new.target.name;
        this.code = code;
        this.description = description;
        this.retryAfter = retryAfter;
        this.requestId = requestId;
    }
}
export class InvalidRequestError extends TokenBrokerError {}
export class AccessDeniedError extends TokenBrokerError {}
export class UnknownAccountError extends TokenBrokerError {}
export class CredentialsRejectedError extends TokenBrokerError {}
export class UnavailableError extends TokenBrokerError {}
export class NotConfiguredError extends TokenBrokerError {}

// `token_expires_too_soon`, a code of this client, and `internal` have no class of their own.
const CLASSES = new Map([
    ["invalid_request", InvalidRequestError],
    ["access_denied", AccessDeniedError],
    ["unknown_account", UnknownAccountError],
    ["credentials_rejected", CredentialsRejectedError],
    ["bad_secret", CredentialsRejectedError],
    ["login_budget_exhausted", UnavailableError],
    ["upstream_rate_limited", UnavailableError],
    ["upstream_unavailable", UnavailableError],
    ["refresh_in_progress", UnavailableError],
    ["store_unavailable", UnavailableError],
    ["secret_unavailable", UnavailableError],
    ["broker_unavailable", UnavailableError],
    ["not_configured", NotConfiguredError],
]);

// No error has a `cause`: the errors of decoders and HTTP libraries may quote a response or a header.
function brokerError(code, description, details) {
    return new (CLASSES.get(code) ?? TokenBrokerError)(code, description, details);
}

// ---- Tokens and their cache

const ACCOUNT = /^[a-z0-9][a-z0-9-]{0,62}$/;
// Only these characters can be sent in a header.
const SENDABLE = /^[!-~]+$/;

// The minimum of a caller that names none; less for tokens that live shorter than twice this.
const DEFAULT_MIN_TTL_SECONDS = 60;
// The broker's own limit for `expires_in`. A longer one is a defect.
const MAX_LIFETIME_SECONDS = 7 * 86_400;
// The part of its lifetime after which a token is renewed in the background.
const RENEW_AFTER = 2 / 3;
// A round trip of up to this long does not count against `minTtlSeconds`. The broker's own margin covers it.
const ROUND_TRIP_MS = 2_000;
// The pause before the next background renewal after one that failed.
const RETRY_SECONDS = 5;
const RETRY_SECONDS_LIMIT = 60;
// For this long after a failed request, callers get its error again instead of another request. It doubles with each
// failure in a row, and is longer if `retryAfter` says so.
const COOLDOWN_SECONDS = 0.25;
const COOLDOWN_SECONDS_LIMIT = 10;
// After the broker has found a reported token alive, the same generation is not reported again for this long.
const REPORT_MS = 5_000;
// A request to the broker that takes longer is abandoned, for example one that was frozen together with its Lambda.
const REQUEST_MS = 40_000;
// How many requests one call may wait for.
const MAX_REQUESTS = 5;

class Token {
    // A private field: no inspection, serialisation or copy shows it.
    #accessToken;

    constructor(accessToken, generation, account, requestedAt, expiresAt) {
        this.#accessToken = accessToken;
        this.generation = generation;
        this.account = account;
        this.requestedAt = requestedAt;
        this.expiresAt = expiresAt;
        Object.freeze(this);
    }

    get accessToken() {
        return this.#accessToken;
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

function minTtlMs(token, minTtlSeconds) {
    if (minTtlSeconds !== undefined) return minTtlSeconds * 1000;
    return Math.min(DEFAULT_MIN_TTL_SECONDS * 1000, lifetimeMs(token) / 2);
}

function lasts(token, minTtlSeconds, now) {
    const left = token.expiresAt - now;
    return left > 0 && left >= minTtlMs(token, minTtlSeconds);
}

// The broker counts from the moment of its answer. Without this allowance, a `minTtlSeconds` that equals the broker's
// longest `expires_in` could never be met.
function lastsOnArrival(token, minTtlSeconds, now) {
    const prompt = now - token.requestedAt <= ROUND_TRIP_MS;
    const enough = lifetimeMs(token) >= minTtlMs(token, minTtlSeconds);
    return lasts(token, minTtlSeconds, now) || (prompt && enough && now < token.expiresAt);
}

class TokenSource {
    #transport;
    #now;
    #warn;
    // By account: {token, renewAt, request, reported: {generation, until}, failure: {error, at, cooldown}, failures}
    #entries = new Map();

    constructor({ transport = agent(), now = Date.now, warn = printWarning } = {}) {
        this.#transport = transport;
        // The wall clock: a monotonic clock may stand still while Lambda has frozen the environment.
        this.#now = now;
        this.#warn = warn;
    }

    async get({ account = "default", minTtlSeconds } = {}) {
        check(account, minTtlSeconds);
        for (let requests = 0; requests < MAX_REQUESTS; requests++) {
            const { cached, request } = this.#lookUp(account, minTtlSeconds);
            if (cached) return cached;
            const token = await tokenOf(request, minTtlSeconds, undefined);
            if (!token) continue;
            if (lastsOnArrival(token, minTtlSeconds, this.#now())) return token;
            const requested = request.minTtlSeconds ?? DEFAULT_MIN_TTL_SECONDS;
            const needed = minTtlSeconds ?? DEFAULT_MIN_TTL_SECONDS;
            if (requested >= needed && lifetimeMs(token) < minTtlMs(token, minTtlSeconds)) break;
            // The request was for less than this caller needs, or the token expired before this caller resumed.
        }
        const wanted = minTtlSeconds === undefined ? "long enough" : `for ${minTtlSeconds} s`;
        throw brokerError("token_expires_too_soon", `the broker has no token that lasts ${wanted}`);
    }

    async report(generation, { account = "default", minTtlSeconds } = {}) {
        check(account, minTtlSeconds);
        for (let requests = 0; requests < MAX_REQUESTS; requests++) {
            const { cached, request } = this.#lookUpReport(account, minTtlSeconds, generation);
            if (cached) return cached;
            if (!request) break; // the generation was reported a moment ago
            if (request.rejected !== generation) {
                // Another request is in progress. Its token may be newer already.
                await request.token.catch(() => {});
                continue;
            }
            const token = await tokenOf(request, minTtlSeconds, generation);
            if (!token) continue;
            if (lastsOnArrival(token, minTtlSeconds, this.#now())) return token;
            break;
        }
        return this.get({ account, minTtlSeconds });
    }

    #lookUp(account, minTtlSeconds) {
        const now = this.#now();
        const entry = this.#entry(account);
        const cached = entry.token && lasts(entry.token, minTtlSeconds, now) ? entry.token : undefined;
        let request = inProgress(entry, now);
        if (!request && !(cached && now < entry.renewAt)) {
            if (!cached) throwDuringCooldown(entry.failure, now);
            request = this.#start(account, entry, minTtlSeconds, undefined, cached !== undefined);
        }
        return { cached, request };
    }

    #lookUpReport(account, minTtlSeconds, generation) {
        const now = this.#now();
        const entry = this.#entry(account);
        const { token, reported } = entry;
        if (token && token.generation > generation && lasts(token, minTtlSeconds, now)) return { cached: token };
        const request = inProgress(entry, now);
        if (request) return { request };
        if (reported.generation === generation && now < reported.until) return {};
        return { request: this.#start(account, entry, minTtlSeconds, generation, false) };
    }

    #entry(account) {
        if (!this.#entries.has(account)) {
            const reported = { generation: -1, until: 0 };
            this.#entries.set(account, { token: undefined, renewAt: 0, request: undefined, reported, failures: 0 });
        }
        return this.#entries.get(account);
    }

    #start(account, entry, minTtlSeconds, rejected, isRenewal) {
        const request = { minTtlSeconds, rejected, isRenewal, startedAt: this.#now() };
        entry.request = request;
        request.token = this.#perform(account, entry, request);
        request.token.catch(() => {}); // a renewal in the background may have no waiting caller
        return request;
    }

    async #perform(account, entry, request) {
        try {
            const requestedAt = this.#now();
            const { minTtlSeconds, rejected } = request;
            const answer = this.#transport.fetch({ account, minTtlSeconds, rejectedGeneration: rejected });
            const token = parse(await within(REQUEST_MS, answer), account, requestedAt);
            store(entry, token, request, this.#now());
            return token;
        } catch (error) {
            if (entry.request === request) storeFailure(entry, error, request, this.#now());
            if (request.isRenewal) {
                const reason = error instanceof TokenBrokerError ? error.message : error?.name;
                this.#warn(`token-broker: the token of account ${account} is valid, but its renewal failed: ${reason}`);
            }
            throw error;
        } finally {
            if (entry.request === request) entry.request = undefined;
        }
    }
}

function printWarning(message) {
    console.warn(message);
}

export function createTokenSource(options) {
    return new TokenSource(options);
}

// The token of a request; undefined if it failed for the options of another caller, which this one does not share.
async function tokenOf(request, minTtlSeconds, rejected) {
    try {
        return await request.token;
    } catch (error) {
        const isOwn = request.minTtlSeconds === minTtlSeconds && request.rejected === rejected;
        if (isOwn || !(error instanceof InvalidRequestError)) throw error;
        return undefined;
    }
}

function inProgress(entry, now) {
    return entry.request && now - entry.request.startedAt <= REQUEST_MS ? entry.request : undefined;
}

function throwDuringCooldown(failure, now) {
    if (!failure) return;
    const { error, at, cooldown } = failure;
    const waited = (now - at) / 1000;
    if (waited < 0 || waited >= cooldown) return;
    const retryAfter =
        error.retryAfter === undefined ? undefined : Math.ceil(Math.max(error.retryAfter, cooldown) - waited);
    throw brokerError(error.code, error.description, { retryAfter, requestId: error.requestId });
}

function store(entry, token, request, now) {
    entry.failure = undefined;
    entry.failures = 0;
    const known = entry.token;
    // An abandoned request may end after its successor. Its token is stored only if it is the better one. But if the
    // API refused the known token, and the broker answers that with an older one, its table was restored.
    const isBetter =
        !known ||
        !lasts(known, request.minTtlSeconds, now) ||
        token.generation > known.generation ||
        (token.generation === known.generation && token.requestedAt >= known.requestedAt) ||
        request.rejected >= known.generation;
    if (isBetter) {
        entry.token = token;
        entry.renewAt = token.requestedAt + lifetimeMs(token) * RENEW_AFTER;
    } else {
        entry.renewAt = Math.max(entry.renewAt, now + RETRY_SECONDS * 1000);
    }
    if (request.rejected !== undefined && token.generation <= request.rejected) {
        entry.reported = { generation: request.rejected, until: now + REPORT_MS };
    }
}

function storeFailure(entry, error, request, now) {
    const retryAfter = error?.retryAfter ?? 0;
    const againAt = now + Math.min(Math.max(retryAfter, RETRY_SECONDS), RETRY_SECONDS_LIMIT) * 1000;
    if (request.rejected !== undefined) {
        entry.reported = { generation: request.rejected, until: againAt };
    }
    // A fault in one caller's options must not delay others.
    const hasOptions = request.minTtlSeconds !== undefined || request.rejected !== undefined;
    if (error instanceof InvalidRequestError && hasOptions) return;
    entry.renewAt = againAt;
    entry.failure = undefined;
    if (error instanceof TokenBrokerError) {
        const cooldown = retryAfter || COOLDOWN_SECONDS * 2 ** entry.failures;
        entry.failure = { error, at: now, cooldown: Math.min(cooldown, COOLDOWN_SECONDS_LIMIT) };
        entry.failures += 1;
    }
}

function check(account, minTtlSeconds) {
    if (typeof account !== "string" || !ACCOUNT.test(account)) {
        const expected = "a name of 1 to 63 lower-case letters, digits and hyphens";
        throw brokerError("invalid_request", `\`account\` has to be ${expected}`);
    }
    if (minTtlSeconds !== undefined && !(Number.isInteger(minTtlSeconds) && minTtlSeconds >= 0)) {
        throw brokerError("invalid_request", "`minTtlSeconds` has to be a whole number");
    }
}

function parse(answer, account, requestedAt) {
    const { access_token: accessToken, expires_in: expiresIn, generation, account: named = account } = answer ?? {};
    const isToken = typeof accessToken === "string" && SENDABLE.test(accessToken) && named === account;
    const isLifetime = Number.isInteger(expiresIn) && expiresIn > 0 && expiresIn <= MAX_LIFETIME_SECONDS;
    if (!isToken || !isLifetime || !Number.isInteger(generation)) {
        throw brokerError("broker_unavailable", "the response is not a token answer");
    }
    return new Token(accessToken, generation, account, requestedAt, requestedAt + expiresIn * 1000);
}

async function within(milliseconds, promise) {
    let timer;
    const timeout = new Promise((_, reject) => {
        const description = `no answer within ${milliseconds / 1000} s`;
        timer = setTimeout(() => reject(brokerError("broker_unavailable", description)), milliseconds);
    });
    try {
        return await Promise.race([promise, timeout]);
    } finally {
        clearTimeout(timer);
    }
}

// ---- fetch

export function brokerFetch({
    source = createTokenSource(),
    account,
    minTtlSeconds,
    apiUrl,
    fetch = globalThis.fetch,
    warn = printWarning,
} = {}) {
    const isApi = apiUrl === undefined ? () => true : sameOriginAs(apiUrl);

    // Reports the refused token. Resolves to a token only if it has a newer generation.
    async function newerThan(refused) {
        try {
            const token = await source.report(refused.generation, { account, minTtlSeconds });
            return token.generation > refused.generation ? token : undefined;
        } catch (error) {
            if (!(error instanceof TokenBrokerError)) throw error;
            // The caller gets the API's own 401, which is the more useful of the two answers.
            const subject = `token-broker: the API refused the token of account ${refused.account}`;
            warn(`${subject}, but the report failed: ${error.message}`);
            return undefined;
        }
    }

    return async function fetchWithToken(input, init = {}) {
        const request = isRequest(input) ? input : undefined;
        if (!isApi(request?.url ?? input)) return fetch(input, init);
        const signal = init.signal ?? request?.signal;
        const send = (token) => {
            const headers = new Headers(init.headers ?? request?.headers);
            headers.set("authorization", token.authorization);
            return fetch(input, { ...init, headers });
        };
        const token = await unlessAborted(signal, source.get({ account, minTtlSeconds }));
        const response = await send(token);
        if (response.status !== 401 || hasLeftTheHost(request?.url ?? input, response)) return response;
        const newer = await unlessAborted(signal, newerThan(token));
        const hasTakenEffect = response.redirected && !SAFE_METHODS.test(init.method ?? request?.method ?? "GET");
        if (!newer || hasTakenEffect || !canBeSentAgain(init.body ?? request?.body)) return response;
        await response.body?.cancel();
        return send(newer);
    };
}

// After a redirect, a request with another method may have taken effect already.
const SAFE_METHODS = /^(GET|HEAD|OPTIONS)$/i;

// By its shape: a request of another implementation of fetch is no instance of the global class.
function isRequest(input) {
    return typeof input === "object" && input !== null && "headers" in input && "url" in input;
}

function canBeSentAgain(body) {
    return (
        body === undefined ||
        body === null ||
        typeof body === "string" ||
        body instanceof URLSearchParams ||
        body instanceof FormData ||
        body instanceof Blob ||
        body instanceof ArrayBuffer ||
        ArrayBuffer.isView(body)
    );
}

// Without its scheme, a URL has no origin: every request would be sent without a token.
function sameOriginAs(apiUrl) {
    const url = URL.canParse(apiUrl) ? new URL(apiUrl) : undefined;
    if (!["http:", "https:"].includes(url?.protocol)) {
        throw brokerError("not_configured", "`apiUrl` has to be a URL such as https://platform-api.convirza.com");
    }
    return (other) => isSameOrigin(url, other);
}

function isSameOrigin(one, other) {
    return new URL(one).origin === new URL(other).origin;
}

// After a redirect to another host, fetch sends no token. A 401 from that host says nothing about the token.
function hasLeftTheHost(input, response) {
    return response.redirected && !isSameOrigin(response.url, input);
}

// The request for a token goes on after an abort, because others may wait for it too.
async function unlessAborted(signal, promise) {
    if (!signal) return promise;
    let abort;
    const aborted = new Promise((_, reject) => {
        abort = () => reject(signal.reason);
        if (signal.aborted) abort();
        else signal.addEventListener("abort", abort, { once: true });
    });
    try {
        return await Promise.race([aborted, promise]);
    } finally {
        signal.removeEventListener("abort", abort);
    }
}

// ---- Transports

const MAX_RESPONSE_BYTES = 65_536;
const GUARD_VARIABLES = ["TOKEN_BROKER_TOKEN", "AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN"];
const CODE = /^[a-z]+(_[a-z]+)*$/;
const RETRY_AFTER = / \(retry_after=(\d+)\)$/;

export function agent({ port, token, timeoutMs = 25_000 } = {}) {
    return {
        async fetch(wanted) {
            const number = port ?? (process.env.TOKEN_BROKER_PORT || 2774);
            if (!/^\d+$/.test(number) || number < 1 || number > 65_535) {
                throw brokerError("not_configured", "TOKEN_BROKER_PORT has to be a port number");
            }
            const url = new URL(`http://127.0.0.1:${number}/v1/token`);
            url.search = new URLSearchParams(fields(wanted));
            const headers = { "x-token-broker-token": await guardToken(token) };
            const response = await exchange(
                url,
                { headers, timeoutMs },
                (reason) => `the agent on 127.0.0.1:${number} does not answer: ${reason}`,
            );
            return read(response);
        },
    };
}

export function lambda({ functionName, client, timeoutMs = 30_000 } = {}) {
    return {
        async fetch(wanted) {
            const name = functionName ?? process.env.TOKEN_BROKER_FUNCTION;
            if (!name) {
                throw brokerError("not_configured", "name the broker's function, or set TOKEN_BROKER_FUNCTION");
            }
            const { InvokeCommand, LambdaClient } = await import("@aws-sdk/client-lambda").catch(
                explainMissing("@aws-sdk/client-lambda"),
            );
            const command = new InvokeCommand({ FunctionName: name, Payload: JSON.stringify(fields(wanted)) });
            const response = await awsCall(`lambda:InvokeFunction on ${name}`, () => {
                client ??= new LambdaClient({ maxAttempts: 2, region: regionOfArn(name) });
                return client.send(command, { abortSignal: AbortSignal.timeout(timeoutMs) });
            });
            return readInvocation(response);
        },
    };
}

export function httpApi({ url, region, service, credentials, timeoutMs = 30_000 } = {}) {
    return {
        async fetch(wanted) {
            const target = apiUrl(url ?? process.env.TOKEN_BROKER_URL);
            const found = serviceAndRegion(target.hostname);
            const signingRegion = region ?? found.region ?? (process.env.AWS_REGION || process.env.AWS_DEFAULT_REGION);
            if (!signingRegion) throw brokerError("not_configured", "there is no AWS Region; set AWS_REGION");
            const { SignatureV4 } = await import("@smithy/signature-v4").catch(explainMissing("@smithy/signature-v4"));
            credentials ??= await import("@aws-sdk/credential-provider-node").then(
                ({ defaultProvider }) => defaultProvider(),
                explainMissing("@aws-sdk/credential-provider-node"),
            );
            const signer = new SignatureV4({
                service: service ?? found.service,
                region: signingRegion,
                credentials,
                sha256: Sha256,
            });
            const body = JSON.stringify(fields(wanted));
            const signed = await awsCall(`signing for ${target.hostname}`, () =>
                signer.sign({
                    method: "POST",
                    protocol: target.protocol,
                    hostname: target.hostname,
                    path: target.pathname,
                    headers: { host: target.host, "content-type": "application/json" },
                    body,
                }),
            );
            const options = { method: "POST", headers: signed.headers, body, timeoutMs };
            return read(await exchange(target, options, (reason) => `POST ${target.hostname} failed: ${reason}`));
        },
    };
}

// The Region that an ARN names, which the SDK ignores. Undefined for a name: then the SDK finds the Region itself.
function regionOfArn(functionName) {
    return /^arn:[^:]+:lambda:([^:]+):/.exec(functionName)?.[1];
}

class Sha256 {
    #hash;

    constructor(secret) {
        this.#hash = secret ? createHmac("sha256", secret) : createHash("sha256");
    }

    update(data) {
        this.#hash.update(data);
    }

    async digest() {
        return this.#hash.digest();
    }
}

async function guardToken(given) {
    const variable = GUARD_VARIABLES.find((name) => process.env[name]);
    let value = given || (variable && process.env[variable]) || "";
    if (value.startsWith("file://")) {
        const path = value.slice("file://".length);
        value = await readFile(path, "utf8").then(
            (text) => text.trim(),
            () => undefined,
        );
        if (value === undefined) {
            throw brokerError("not_configured", `the guard token's file ${path} cannot be read`);
        }
    }
    if (!value) throw brokerError("not_configured", `there is no guard token; set ${GUARD_VARIABLES[0]}`);
    if (!SENDABLE.test(value)) {
        throw brokerError("not_configured", "the guard token has characters that cannot be sent in a header");
    }
    return value;
}

function fields({ account, minTtlSeconds, rejectedGeneration }) {
    const all = { account, min_ttl_seconds: minTtlSeconds, rejected_generation: rejectedGeneration };
    return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
}

function apiUrl(text) {
    const url = URL.canParse(text ?? "") ? new URL(text) : undefined;
    const isLoopback = ["127.0.0.1", "localhost", "[::1]"].includes(url?.hostname);
    if (url?.protocol !== "https:" && !(url?.protocol === "http:" && isLoopback)) {
        throw brokerError("not_configured", "give the API's https URL, or set TOKEN_BROKER_URL");
    }
    url.search = "";
    url.pathname = `${url.pathname.replace(/\/+$/, "")}/token`;
    return url;
}

function serviceAndRegion(hostname) {
    const [, kind, region] = hostname.split(".");
    if (kind === "lambda-url") return { service: "lambda", region };
    return { service: "execute-api", region: kind === "execute-api" ? region : undefined };
}

// A bundler includes a package only if `import` has its name as a literal, and builds without a missing one only if the
// import has a `catch`.
function explainMissing(name) {
    return (error) => {
        if (!["ERR_MODULE_NOT_FOUND", "MODULE_NOT_FOUND"].includes(error?.code)) throw error;
        throw brokerError("not_configured", `the package ${name} is missing; install it`);
    };
}

async function awsCall(action, call) {
    try {
        return await call();
    } catch (error) {
        const name = error?.name ?? "Error";
        if (name === "AccessDeniedException") throw brokerError("access_denied", `IAM does not allow ${action}`);
        if ([401, 403].includes(error?.$metadata?.httpStatusCode)) {
            throw brokerError("access_denied", `AWS refused ${action}: ${name}`);
        }
        if (name === "CredentialsProviderError" || error?.message === "Region is missing") {
            throw brokerError("not_configured", `${action}: there are no AWS credentials, or there is no AWS Region`);
        }
        throw brokerError("broker_unavailable", `${action} failed: ${name}`);
    }
}

// One HTTP exchange. Not `fetch`, which an application may have replaced with `brokerFetch`; it uses no proxy and
// follows no redirect.
function exchange(url, { method = "GET", headers, body, timeoutMs }, describe) {
    return new Promise((resolve, reject) => {
        const signal = AbortSignal.timeout(timeoutMs);
        const fail = (error) => {
            const reason = signal.aborted ? `no answer within ${timeoutMs / 1000} s` : (error.code ?? error.name);
            reject(brokerError("broker_unavailable", describe(reason)));
        };
        const { request: start } = url.protocol === "https:" ? https : http;
        const request = start(url, { method, headers, agent: false, signal }, (response) => {
            const chunks = [];
            let length = 0;
            response.on("data", (chunk) => {
                chunks.push(chunk);
                length += chunk.length;
                if (length > MAX_RESPONSE_BYTES) request.destroy(new RangeError("the response is too long"));
            });
            response.on("error", fail);
            response.on("end", () => {
                const text = Buffer.concat(chunks).toString("utf8");
                resolve({ status: response.statusCode, retryAfter: response.headers["retry-after"], text });
            });
        });
        request.on("error", fail);
        request.end(body);
    });
}

function read({ status, retryAfter: header, text }) {
    const object = decode(text);
    if (status === 200 && object) return object;
    if (status === 200) throw brokerError("broker_unavailable", "the response is not a token answer");
    const retryAfter = wholeSeconds(object?.retry_after) ?? wholeSeconds(header);
    const code = object?.error;
    if (typeof code === "string" && CODE.test(code)) {
        const requestId = typeof object.request_id === "string" ? object.request_id : undefined;
        throw brokerError(code, String(object.error_description ?? ""), { retryAfter, requestId });
    }
    // A gateway's own message is not repeated: it may quote the signed request with its session token.
    if (status === 401 || status === 403) {
        throw brokerError("access_denied", `the request was refused with ${status} before the broker saw it`);
    }
    throw brokerError("broker_unavailable", `status ${status} without the broker's error body`, { retryAfter });
}

function readInvocation({ FunctionError: isError, Payload: payload }) {
    const object = decode(new TextDecoder().decode(payload ?? undefined)); // the SDK makes null of an empty payload
    if (!isError && object) return object;
    if (!isError) throw brokerError("broker_unavailable", "the response is not a token answer");
    const code = String(object?.errorType ?? "");
    const message = String(object?.errorMessage ?? "");
    // Lambda's own errors are Runtime.ExitError and the like, or a time-out, which has no type.
    if (!CODE.test(code)) throw brokerError("broker_unavailable", `the function failed: ${code || message}`);
    const retryAfter = wholeSeconds(RETRY_AFTER.exec(message)?.[1]);
    throw brokerError(code, message.replace(RETRY_AFTER, ""), { retryAfter });
}

function decode(text) {
    try {
        const value = JSON.parse(text);
        return typeof value === "object" && value !== null && !Array.isArray(value) ? value : undefined;
    } catch {
        return undefined;
    }
}

// More than a billion seconds are no time to wait.
function wholeSeconds(value) {
    if (typeof value === "string" && /^\d{1,9}$/.test(value)) return Number(value);
    return Number.isInteger(value) && value >= 0 && value < 1e9 ? value : undefined;
}
