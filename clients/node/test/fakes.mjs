// A broker behind its three fronts, and an API, on one loopback port. They speak the contract.

import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import http from "node:http";
import { agent, createTokenSource } from "token-broker";

// The tests run in a copy of this folder. `clients/test.sh` says where the repository is.
const repository = process.env.REPOSITORY ?? new URL("../../..", import.meta.url).pathname;
export const readText = (path) => readFileSync(`${repository}/${path}`, "utf8");
export const readJson = (path) => JSON.parse(readText(path));

const {
    agent: [{ token_path: tokenPath }],
    messages: [in12Seconds, unknownClient],
} = readJson("crates/contract/contract.json");

export const GUARD = "guard-secret";
export const AWS = {
    credentials: { accessKeyId: "AKIDEXAMPLE", secretAccessKey: "aws-secret", sessionToken: "session-secret" },
    region: "eu-west-1",
};

// The tests set the environment.
for (const name of Object.keys(process.env)) {
    if (/^(AWS_|TOKEN_BROKER_)/.test(name)) delete process.env[name];
}
process.env.AWS_EC2_METADATA_DISABLED = "true";

/** A wall clock that moves only when a test says so. */
export class Clock {
    ms = 1_000_000_000;
    now = () => this.ms;

    advance(seconds) {
        this.ms += seconds * 1000;
    }
}

/** One token pair per account, and switches for what can go wrong. */
export class Broker {
    expiresIn = 900;
    maxTtl = 900;
    knowsClient = true;
    requests = [];
    fault;
    raw;
    dead = new Set();
    mayAnswer = Promise.resolve();
    beforeAnswer = () => {};
    generations = new Map();

    token(account = "default") {
        return `token-secret-${account}-${this.generations.get(account) ?? 7}`;
    }

    /** The upstream ends the session without the broker's knowledge. */
    revoke(account = "default") {
        this.dead.add(this.token(account));
    }

    replace(account = "default") {
        this.generations.set(account, (this.generations.get(account) ?? 7) + 1);
    }

    /** Restores the broker's table from before the last replacement. */
    restore(account = "default") {
        this.generations.set(account, this.generations.get(account) - 1);
    }

    /** Lets requests wait for an answer until the returned function is called. */
    hold() {
        let release;
        this.mayAnswer = new Promise((resolve) => (release = resolve));
        return release;
    }

    async answer(fields) {
        this.requests.push(fields);
        await this.mayAnswer;
        this.beforeAnswer();
        if (this.fault) return [503, this.fault];
        if (!this.knowsClient && "client" in fields) {
            return [400, fault("invalid_request", `${unknownClient.text}; the fields are others`)];
        }
        const { account = "default", min_ttl_seconds: minTtl, rejected_generation: rejected } = fields;
        if (account === "nobody") return [404, fault("unknown_account", "no secret for that account")];
        if (Number(minTtl ?? 0) > this.maxTtl) {
            return [400, fault("invalid_request", `\`min_ttl_seconds\` may be at most ${this.maxTtl}`)];
        }
        if (!this.generations.has(account)) this.generations.set(account, 7);
        if (Number(rejected) === this.generations.get(account) && this.dead.has(this.token(account))) {
            this.replace(account);
        }
        const answer = {
            access_token: this.token(account),
            token_type: "Bearer",
            expires_in: this.expiresIn,
            expires_at: "2026-04-06T12:34:56Z",
            account,
            generation: this.generations.get(account),
            served_from: "memory",
        };
        return [200, answer];
    }
}

export function fault(code, description, retryAfter) {
    const body = { error: code, error_description: description, request_id: "request-1" };
    return retryAfter === undefined ? body : { ...body, retry_after: retryAfter };
}

/** Starts the servers for one test. `apiRequests` are {method, path, body, token, other} as received by the API. */
export async function startFakes(test) {
    const fakes = { broker: new Broker(), clock: new Clock(), apiRequests: [], brokerHeaders: [], warnings: [] };
    const server = http.createServer(async (request, response) => {
        const [status, body, headers] = await route(fakes, request);
        const content = typeof body === "string" ? body : JSON.stringify(body);
        const retryAfter = body?.retry_after === undefined ? {} : { "retry-after": body.retry_after };
        response.writeHead(status, { "content-type": "application/json", ...retryAfter, ...headers });
        response.end(content);
    });
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    fakes.port = server.address().port;
    fakes.url = `http://127.0.0.1:${fakes.port}`;
    fakes.warn = (message) => fakes.warnings.push(message);
    fakes.stop = () =>
        new Promise((resolve) => {
            server.close(resolve);
            server.closeAllConnections();
        });
    test.after(fakes.stop);
    fakes.agent = agent({ port: fakes.port, token: GUARD });
    fakes.source = createTokenSource({ transport: fakes.agent, now: fakes.clock.now, warn: fakes.warn });
    return fakes;
}

/** A port on which nothing listens. */
export async function closedPort(test) {
    const fakes = await startFakes(test);
    await fakes.stop();
    return fakes.port;
}

/** Resolves once other work of the event loop makes `condition` true. */
export async function until(condition) {
    for (let attempt = 0; attempt < 100_000; attempt++) {
        if (condition()) return;
        await new Promise(setImmediate);
    }
    throw new Error("the condition was never met");
}

async function route(fakes, request) {
    const url = new URL(request.url, fakes.url);
    const body = await readBody(request);
    if (url.pathname === tokenPath) return agentFront(fakes, request, url);
    if (url.pathname === "/prod/token") return httpFront(fakes, request, body);
    if (url.pathname.startsWith("/2015-03-31/functions/")) return invokeFront(fakes, request, url, body);
    return api(fakes, request, url, body);
}

async function readBody(request) {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    return Buffer.concat(chunks).toString("utf8");
}

async function agentFront(fakes, request, url) {
    fakes.brokerHeaders.push(request.headers);
    if (request.headers["x-token-broker-token"] !== GUARD || "x-forwarded-for" in request.headers) {
        return [401, fault("access_denied", "the guard token is missing or wrong")];
    }
    if (!/^(127\.0\.0\.1|localhost):/.test(request.headers.host)) {
        return [403, fault("access_denied", "not a loopback host")];
    }
    return fakes.broker.raw ?? fakes.broker.answer(Object.fromEntries(url.searchParams));
}

async function httpFront(fakes, request, body) {
    if (!isSigned(request, body)) {
        const token = request.headers["x-amz-security-token"];
        return [403, { message: `the canonical request has x-amz-security-token:${token}` }];
    }
    return fakes.broker.raw ?? fakes.broker.answer(JSON.parse(body));
}

async function invokeFront(fakes, request, url, body) {
    fakes.brokerHeaders.push(request.headers);
    const refusals = { forbidden: "AccessDeniedException", expired: "ExpiredTokenException" };
    const refusal = refusals[url.pathname.split("/")[3]];
    if (refusal) return [403, { Message: "secret" }, { "x-amzn-errortype": refusal }];
    const failed = { "x-amz-function-error": "Unhandled" };
    if (fakes.broker.raw) return [...fakes.broker.raw, failed].slice(0, 3);
    const [status, answer] = await fakes.broker.answer(JSON.parse(body));
    if (status === 200) return [200, answer];
    const retry = answer.retry_after === undefined ? "" : in12Seconds.text.replace("12", answer.retry_after);
    return [200, { errorType: answer.error, errorMessage: answer.error_description + retry }, failed];
}

function api(fakes, request, url, body) {
    const token = request.headers.authorization?.replace("Bearer ", "");
    const other = request.headers["x-other"];
    fakes.apiRequests.push({ method: request.method, path: url.pathname, body, token, other });
    if (url.pathname === "/elsewhere") return [307, {}, { location: `http://localhost:${fakes.port}/items` }];
    if (url.pathname === "/effect") {
        fakes.broker.dead.add("token-secret-default-7");
        return [303, {}, { location: "/items" }];
    }
    if (!token || fakes.broker.dead.has(token) || url.pathname === "/always-401") {
        return [401, { message: "Unauthorized" }];
    }
    return [200, { path: url.pathname }];
}

/** Computes the signature of the request as it arrived. */
function isSigned(request, body) {
    const match = /^AWS4-HMAC-SHA256 Credential=[^/]+\/([^,]+), SignedHeaders=([^,]+), Signature=([0-9a-f]{64})$/.exec(
        request.headers.authorization ?? "",
    );
    if (!match) return false;
    const [, scope, names, signature] = match;
    const sha256 = (text) => createHash("sha256").update(text).digest("hex");
    const headers = names.split(";").map((name) => `${name}:${request.headers[name]}`);
    const canonical = [request.method, request.url, "", ...headers, "", names, sha256(body)].join("\n");
    const toSign = ["AWS4-HMAC-SHA256", request.headers["x-amz-date"], scope, sha256(canonical)].join("\n");
    let key = `AWS4${AWS.credentials.secretAccessKey}`;
    for (const part of [...scope.split("/"), toSign]) key = createHmac("sha256", key).update(part).digest();
    return names.split(";").includes("host") && timingSafeEqual(key, Buffer.from(signature, "hex"));
}
