// Runs the cases of `crates/contract/behaviour.json`, which defines how every client behaves.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { brokerFetch, createTokenSource } from "token-broker";
import { readJson, startFakes } from "./fakes.mjs";

const CASES = readJson("crates/contract/behaviour.json");
const { brokerErrorOf, serviceAndRegion } = await internals();

async function internals() {
    const inPackage = (file) => import(new URL(file, import.meta.resolve("token-broker")));
    const [{ brokerError }, { serviceAndRegion }] = [await inPackage("errors.mjs"), await inPackage("transports.mjs")];
    const brokerErrorOf = ({ error, retry_after: retryAfter }) =>
        brokerError(error, "as the case says", { retryAfter });
    return { brokerErrorOf, serviceAndRegion };
}

/** The test controls timers, clocks and randomness, so that nothing takes time. */
class Run {
    passedMs = 0;
    steppedMs = 0;
    draw = 0;
    calls = [];
    expectedCalls = 0;
    outcomes = new Map();

    constructor(t) {
        this.timers = t.mock.timers;
        this.timers.enable({ apis: ["setTimeout"] });
        t.mock.method(performance, "now", () => this.passedMs);
        this.source = createTokenSource({
            transport: { fetch: (asked) => this.#fetch(asked) },
            now: () => 1_000_000_000 + this.passedMs + this.steppedMs,
            random: () => this.draw,
            warn: () => {},
        });
    }

    #fetch({ account, minTtlSeconds, rejectedGeneration }) {
        const asked = { account, min_ttl_seconds: minTtlSeconds, rejected_generation: rejectedGeneration };
        return new Promise((resolve, reject) => this.calls.push({ asked, resolve, reject }));
    }

    async step(step) {
        if (!("call" in step || "result" in step)) {
            assert.equal(this.expectedCalls, this.calls.length, "no step expects the last call");
        }
        if ("at" in step) {
            while (this.passedMs < step.at * 1000) {
                const tick = Math.min(1000, step.at * 1000 - this.passedMs);
                this.passedMs += tick;
                this.timers.tick(tick);
                await settle();
            }
        } else if ("clock" in step) this.steppedMs += step.clock * 1000;
        else if ("draw" in step) this.draw = step.draw;
        else if ("get" in step) this.#begin(step.get, this.source.get(options(step)));
        else if ("report" in step) this.#begin(step.as, this.source.report(step.report, options(step)));
        else if ("call" in step) this.#expectCall(step);
        else if ("answer" in step) this.#answer(step.answer, step);
        else if ("result" in step) this.#expectResult(step);
        else {
            for (let number = 0; number < step.accounts; number++) {
                const got = this.source.get({ account: `other-${number}` });
                this.expectedCalls += 1;
                this.#answer(this.calls.length, step);
                await got;
            }
        }
        await settle();
    }

    #begin(name, promise) {
        this.outcomes.set(name, { waiting: true });
        promise.then(
            ({ generation }) => this.outcomes.set(name, { generation }),
            ({ code, retryAfter }) =>
                this.outcomes.set(name, { error: code, ...(retryAfter && { retry_after: retryAfter }) }),
        );
    }

    #answer(number, step) {
        const { resolve, reject } = this.calls[number - 1];
        const { generation = 1, expires_in = 900 } = step;
        if (step.error) reject(brokerErrorOf(step));
        else resolve({ access_token: "token-secret", expires_in, generation });
    }

    #expectCall({ call, account = "default", min_ttl_seconds, rejected_generation }) {
        this.expectedCalls += 1;
        assert.equal(this.expectedCalls, call);
        assert.ok(call <= this.calls.length, "no call has begun");
        assert.deepEqual(this.calls[call - 1].asked, { account, min_ttl_seconds, rejected_generation });
    }

    #expectResult({ result, ...expected }) {
        assert.deepEqual(this.outcomes.get(result), expected);
    }
}

function options({ account, min_ttl_seconds: minTtlSeconds }) {
    return { account, minTtlSeconds };
}

async function settle() {
    await new Promise(setImmediate);
}

describe("of a source is that of every client:", () => {
    for (const { rule, steps } of CASES.sources) {
        test(rule, async (t) => {
            const run = new Run(t);
            for (const step of [...steps, { draw: 0 }]) {
                try {
                    await run.step(step);
                } catch (error) {
                    error.message = `${JSON.stringify(step)}: ${error.message}`;
                    throw error;
                }
            }
        });
    }
});

describe("of a request is that of every client:", () => {
    for (const { rule, broker, api, sent, reported, error } of CASES.requests) {
        test(rule, async () => {
            const [answers, statuses, seen] = [broker.values(), api.values(), { sent: [], reported: [] }];
            const transport = {
                async fetch({ rejectedGeneration }) {
                    if (rejectedGeneration !== undefined) seen.reported.push(rejectedGeneration);
                    const answer = answers.next().value;
                    if (answer.error) throw brokerErrorOf(answer);
                    return { access_token: `t${answer.generation}`, expires_in: 900, ...answer };
                },
            };
            const fetch = brokerFetch({
                source: createTokenSource({ transport }),
                fetch: async (_, { headers }) => {
                    seen.sent.push(Number(headers.get("authorization").slice("Bearer t".length)));
                    return new Response(null, { status: statuses.next().value });
                },
                warn: () => {},
            });
            const request = fetch("https://platform-api.convirza.com/v3/x", { method: "POST", body: "text" });
            if (error) await assert.rejects(request, { code: error });
            else assert.equal((await request).status, api.at(-1));
            assert.deepEqual(seen, { sent, reported });
        });
    }
});

describe("of an answer is that of every client:", () => {
    for (const { of, status, body, times = 1, min_ttl_seconds: minTtlSeconds, code } of CASES.answers) {
        test(of, async (t) => {
            const fakes = await startFakes(t);
            fakes.broker.raw = [status, body.repeat(times)];
            // No case states a time or an id that can be used.
            const expected = { code, retryAfter: undefined, requestId: undefined };
            await assert.rejects(createTokenSource({ transport: fakes.agent }).get({ minTtlSeconds }), expected);
        });
    }
});

describe("of a host is that of every client:", () => {
    for (const { host, service, region } of CASES.hosts) {
        test(host, () => assert.deepEqual(serviceAndRegion(host), { service, region: region ?? undefined }));
    }
});
