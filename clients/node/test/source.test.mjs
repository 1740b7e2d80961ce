// The cache, the renewals, the reports and the outages, through a real agent transport and a fake clock.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { createTokenSource, InvalidRequestError, UnavailableError, UnknownAccountError } from "token-broker";
import { Clock, fault, startFakes, until } from "./fakes.mjs";

const OUTAGE = fault("upstream_unavailable", "the upstream does not answer", 12);

/** A transport whose answers the test gives, in any order. */
function byHand() {
    const pending = [];
    return {
        requests: pending,
        fetch: () => new Promise((resolve, reject) => pending.push({ resolve, reject })),
        answer: (request, generation) =>
            pending[request].resolve({ access_token: "token-secret", expires_in: 900, generation }),
    };
}

describe("cache", () => {
    test("one request serves every call until the renewal", async (t) => {
        const { source, broker, clock } = await startFakes(t);
        const first = await source.get();
        clock.advance(599);
        assert.equal(await source.get(), first);
        assert.equal(first.accessToken, "token-secret-default-7");
        assert.equal(first.expiresAt, 1_000_000_000 + 900_000);
        assert.deepEqual(broker.requests, [{ account: "default" }]);
    });

    test("accounts are cached separately", async (t) => {
        const { source, broker } = await startFakes(t);
        assert.equal((await source.get({ account: "emea" })).account, "emea");
        assert.notEqual((await source.get()).accessToken, (await source.get({ account: "emea" })).accessToken);
        assert.equal(broker.requests.length, 2);
    });

    test("an expired token is replaced", async (t) => {
        const { source, broker, clock } = await startFakes(t);
        await source.get();
        clock.advance(900);
        broker.replace();
        assert.equal((await source.get()).generation, 8);
    });

    for (const age of [500, 700, 840, 841]) {
        test(`minTtlSeconds is kept ${age} s after the first request`, async (t) => {
            const { source, broker, clock } = await startFakes(t);
            await source.get();
            clock.advance(age);
            const token = await source.get({ minTtlSeconds: 60 });
            assert.ok(token.expiresAt - clock.now() >= 60_000);
            assert.equal(broker.requests.length <= 2, true);
        });
    }

    test("minTtlSeconds is sent to the broker", async (t) => {
        const { source, broker } = await startFakes(t);
        await source.get({ minTtlSeconds: 300 });
        assert.deepEqual(broker.requests, [{ account: "default", min_ttl_seconds: "300" }]);
    });

    test("a longer minimum than the cached token has asks again", async (t) => {
        const { source, clock } = await startFakes(t);
        await source.get();
        clock.advance(10);
        assert.equal((await source.get({ minTtlSeconds: 895 })).expiresAt, clock.now() + 900_000);
    });

    test("an answer that is too short is an error", async (t) => {
        const { source, broker } = await startFakes(t);
        broker.expiresIn = 20;
        await assert.rejects(source.get({ minTtlSeconds: 30 }), { code: "token_expires_too_soon" });
        assert.equal(broker.requests.length, 1);
    });

    test("a slow answer that is now too short is not handed out", async (t) => {
        const { source, broker, clock } = await startFakes(t);
        broker.expiresIn = 60;
        const delays = [30, 0];
        broker.beforeAnswer = () => clock.advance(delays.shift());
        const token = await source.get({ minTtlSeconds: 60 });
        assert.ok(token.expiresAt - clock.now() >= 60_000);
        assert.equal(broker.requests.length, 2);
    });

    test("a broker that is always too slow is an error", async (t) => {
        const { source, broker, clock } = await startFakes(t);
        broker.expiresIn = 60;
        broker.beforeAnswer = () => clock.advance(30);
        await assert.rejects(source.get({ minTtlSeconds: 60 }), { code: "token_expires_too_soon" });
    });

    test("the longest minimum is met despite a round trip", async (t) => {
        const { source, broker, clock } = await startFakes(t);
        broker.beforeAnswer = () => clock.advance(0.2);
        assert.equal((await source.get({ minTtlSeconds: 900 })).generation, 7);
    });

    test("short-lived tokens are cached for half their life by default", async (t) => {
        const { source, broker, clock } = await startFakes(t);
        broker.expiresIn = 8;
        await source.get();
        clock.advance(4);
        await source.get();
        assert.equal(broker.requests.length, 1);
        clock.advance(1);
        await source.get();
        assert.equal(broker.requests.length, 2);
    });

    for (const options of [
        { account: "" },
        { account: "Emea" },
        { account: "a".repeat(64) },
        { account: "a\n" },
        { account: 7 },
        { minTtlSeconds: -1 },
        { minTtlSeconds: 1.5 },
        { minTtlSeconds: "60" },
    ]) {
        test(`${JSON.stringify(options).slice(0, 40)} is refused without a request`, async (t) => {
            const { source, broker } = await startFakes(t);
            await assert.rejects(source.get(options), InvalidRequestError);
            await assert.rejects(source.report(7, options), InvalidRequestError);
            assert.equal(broker.requests.length, 0);
        });
    }
});

describe("renewal", () => {
    test("starts at two thirds; the old token is used meanwhile", async (t) => {
        const { source, broker, clock } = await startFakes(t);
        await source.get();
        broker.replace();
        clock.advance(600);
        const release = broker.hold();
        assert.equal((await source.get()).generation, 7);
        assert.equal((await source.get()).generation, 7);
        await until(() => broker.requests.length === 2);
        release();
        await until(() => source.get().then((token) => (clock.seen = token.generation)) && clock.seen === 8);
        assert.equal(broker.requests.length, 2);
    });

    test("that brings the same generation extends it", async () => {
        const clock = new Clock();
        const transport = byHand();
        const source = createTokenSource({ transport, now: clock.now });
        const first = source.get();
        transport.answer(0, 7);
        await first;
        clock.advance(600);
        await source.get();
        transport.answer(1, 7);
        await new Promise(setImmediate);
        clock.advance(599);
        assert.equal((await source.get()).expiresAt, 1_000_000_000 + 600_000 + 900_000);
        assert.equal(transport.requests.length, 2);
    });

    test("that brings an older generation is not repeated for 5 seconds", async () => {
        const clock = new Clock();
        const transport = byHand();
        const source = createTokenSource({ transport, now: clock.now });
        const first = source.get();
        transport.answer(0, 8);
        await first;
        clock.advance(600);
        for (const [waited, requests] of [
            [0, 2],
            [4, 2],
            [1, 3],
        ]) {
            clock.advance(waited);
            assert.equal((await source.get()).generation, 8);
            assert.equal(transport.requests.length, requests);
            transport.answer(requests - 1, 7);
            await new Promise(setImmediate);
        }
    });

    test("failure leaves the valid token in use", async (t) => {
        const { source, broker, clock, warnings } = await startFakes(t);
        await source.get();
        broker.fault = OUTAGE;
        clock.advance(600);
        assert.equal((await source.get()).generation, 7);
        await until(() => warnings.length === 1);
        assert.match(warnings[0], /account default is valid, but its renewal failed: upstream_unavailable/);
        clock.advance(11);
        assert.equal((await source.get()).generation, 7);
        assert.equal(broker.requests.length, 2, "retry_after is kept");
        clock.advance(1);
        assert.equal((await source.get()).generation, 7);
        await until(() => broker.requests.length === 3);
    });

    test("failure after expiry is an error until the outage ends", async (t) => {
        const { source, broker, clock } = await startFakes(t);
        await source.get();
        broker.fault = OUTAGE;
        clock.advance(900);
        await assert.rejects(source.get(), { code: "upstream_unavailable", retryAfter: 12 });
        broker.fault = undefined;
        clock.advance(12);
        assert.equal((await source.get()).generation, 7);
    });

    test("retryAfter is kept for up to 10 seconds", async (t) => {
        const { source, broker, clock } = await startFakes(t);
        broker.fault = OUTAGE;
        for (const [waited, left, requests] of [
            [0, 12, 1],
            [4.5, 8, 1],
            [5, 3, 1],
            [0.5, 12, 2],
        ]) {
            clock.advance(waited);
            await assert.rejects(source.get(), { code: "upstream_unavailable", retryAfter: left });
            assert.equal(broker.requests.length, requests);
        }
    });

    test("failure without retryAfter is an error for a time that doubles", async (t) => {
        const { source, broker, clock } = await startFakes(t);
        const outage = fault("store_unavailable", "DynamoDB does not answer");
        broker.fault = outage;
        for (const [index, cooldown] of [0.25, 0.5, 1, 2, 4, 8, 10, 10].entries()) {
            for (const waited of [0, cooldown - 0.125]) {
                clock.advance(waited);
                await assert.rejects(source.get(), { code: "store_unavailable", retryAfter: undefined });
                assert.equal(broker.requests.length, index + 1);
            }
            clock.advance(0.125);
        }
        broker.fault = undefined;
        assert.equal((await source.get()).generation, 7);
        clock.advance(900);
        broker.fault = outage;
        await assert.rejects(source.get(), UnavailableError);
        broker.fault = undefined;
        clock.advance(0.25);
        assert.equal((await source.get()).generation, 7, "the first failure after a success");
    });

    test("failure of a caller's options is not shared", async () => {
        const transport = byHand();
        const source = createTokenSource({ transport, now: new Clock().now });
        const greedy = source.get({ minTtlSeconds: 901 });
        const modest = source.get();
        transport.requests[0].reject(new InvalidRequestError("invalid_request", "900 at most"));
        await assert.rejects(greedy, InvalidRequestError);
        await new Promise(setImmediate);
        transport.answer(1, 7);
        assert.equal((await modest).generation, 7);
    });

    test("an error with retryAfter is one for as long as that says", async (t) => {
        const { source, broker, clock } = await startFakes(t);
        broker.fault = fault("store_unavailable", "DynamoDB does not answer", 1);
        for (let requests = 1; requests < 8; requests++) {
            await assert.rejects(source.get(), UnavailableError);
            assert.equal(broker.requests.length, requests);
            clock.advance(1);
        }
    });

    test("failure of a caller's options is not kept for others", async (t) => {
        const { source } = await startFakes(t);
        await assert.rejects(source.get({ minTtlSeconds: 901 }), InvalidRequestError);
        assert.equal((await source.get()).generation, 7);
    });

    test("outage while less than the minimum is left is an error", async (t) => {
        const { source, broker, clock } = await startFakes(t);
        await source.get();
        broker.fault = OUTAGE;
        clock.advance(880);
        await assert.rejects(source.get(), UnavailableError);
        assert.equal((await source.get({ minTtlSeconds: 10 })).generation, 7);
    });

    test("frozen with its Lambda is abandoned after the thaw", async () => {
        const clock = new Clock();
        const transport = byHand();
        const source = createTokenSource({ transport, now: clock.now });
        const first = source.get();
        transport.answer(0, 7);
        await first;
        clock.advance(600);
        await source.get();
        clock.advance(3600);
        const thawed = source.get();
        assert.equal(transport.requests.length, 3);
        transport.answer(2, 8);
        assert.equal((await thawed).generation, 8);
        transport.answer(1, 7);
        await new Promise(setImmediate);
        assert.equal((await source.get()).generation, 8, "the late answer does not replace the newer one");
    });

    test("late failure does not disturb its successor", async () => {
        const clock = new Clock();
        const transport = byHand();
        const source = createTokenSource({ transport, now: clock.now });
        const late = source.get();
        clock.advance(60);
        const successor = source.get();
        transport.answer(1, 8);
        await successor;
        transport.requests[0].reject(new UnavailableError("broker_unavailable", "too late"));
        await assert.rejects(late, UnavailableError);
        clock.advance(500);
        assert.equal((await source.get()).generation, 8);
        assert.equal(transport.requests.length, 2);
    });
});

describe("single flight", () => {
    test("fifty callers share one request", async (t) => {
        const { source, broker } = await startFakes(t);
        const tokens = await Promise.all(Array.from({ length: 50 }, () => source.get()));
        assert.deepEqual(new Set(tokens.map((token) => token.generation)), new Set([7]));
        assert.equal(broker.requests.length, 1);
    });

    test("fifty reports are one request", async (t) => {
        const { source, broker } = await startFakes(t);
        await source.get();
        broker.revoke();
        const tokens = await Promise.all(Array.from({ length: 50 }, () => source.report(7)));
        assert.deepEqual(new Set(tokens.map((token) => token.generation)), new Set([8]));
        assert.equal(broker.requests.length, 2);
    });

    test("fifty callers share one error", async (t) => {
        const { source, broker } = await startFakes(t);
        broker.fault = OUTAGE;
        const outcomes = await Promise.allSettled(Array.from({ length: 50 }, () => source.get()));
        assert.ok(outcomes.every(({ reason }) => reason.retryAfter === 12));
        assert.equal(broker.requests.length, 1);
    });

    test("a caller that needs longer does not take a shorter answer", async (t) => {
        const { source, broker } = await startFakes(t);
        broker.expiresIn = 120;
        const [short, long] = await Promise.allSettled([
            source.get({ minTtlSeconds: 10 }),
            source.get({ minTtlSeconds: 300 }),
        ]);
        assert.equal(short.value.generation, 7);
        assert.equal(long.reason.code, "token_expires_too_soon");
        assert.deepEqual(
            broker.requests.map((request) => request.min_ttl_seconds),
            ["10", "300"],
        );
    });

    test("a defect of a transport reaches the caller", async () => {
        const transport = { fetch: () => undefined.defect };
        const source = createTokenSource({ transport });
        await assert.rejects(source.get(), TypeError);
        await assert.rejects(source.get(), TypeError);
    });
});

describe("report", () => {
    test("of a dead token brings a newer generation", async (t) => {
        const { source, broker } = await startFakes(t);
        const token = await source.get();
        broker.revoke();
        assert.equal((await source.report(token.generation)).generation, 8);
        assert.equal((await source.get()).generation, 8);
        assert.deepEqual(broker.requests[1], { account: "default", rejected_generation: "7" });
    });

    test("of an older generation is answered from the cache", async (t) => {
        const { source, broker } = await startFakes(t);
        broker.replace();
        await source.get();
        assert.equal((await source.report(7)).generation, 8);
        assert.equal(broker.requests.length, 1);
    });

    test("of a token that is alive brings the same one", async (t) => {
        const { source } = await startFakes(t);
        await source.get();
        assert.equal((await source.report(7)).generation, 7);
    });

    test("is not repeated within 5 seconds", async (t) => {
        const { source, broker, clock } = await startFakes(t);
        await source.get();
        await source.report(7);
        clock.advance(4);
        assert.equal((await source.report(7)).generation, 7);
        assert.equal(broker.requests.length, 2);
        clock.advance(1);
        broker.revoke();
        assert.equal((await source.report(7)).generation, 8);
    });

    test("during an outage fails and keeps the token", async (t) => {
        const { source, broker } = await startFakes(t);
        await source.get();
        broker.fault = OUTAGE;
        await assert.rejects(source.report(7), UnavailableError);
        assert.equal((await source.report(7)).generation, 7, "not reported again before retry_after");
        assert.equal(broker.requests.length, 2);
        assert.equal((await source.get()).generation, 7);
    });

    test("an older token replaces one that is too short", async (t) => {
        const { source, broker, clock } = await startFakes(t);
        broker.replace();
        await source.get();
        broker.restore();
        clock.advance(850);
        for (let count = 0; count < 3; count++) assert.equal((await source.get()).generation, 7);
        assert.equal(broker.requests.length, 2);
    });

    test("of a token that a restored table does not know brings its older one", async (t) => {
        const { source, broker } = await startFakes(t);
        broker.replace();
        await source.get();
        broker.restore();
        for (let attempt = 0; attempt < 3; attempt++) {
            assert.equal((await source.report(8)).generation, 7);
            assert.equal((await source.get()).generation, 7);
        }
        assert.equal(broker.requests.length, 2, "reported once");
    });

    test("waits for a renewal and uses its newer generation", async (t) => {
        const { source, broker, clock } = await startFakes(t);
        await source.get();
        clock.advance(600);
        const release = broker.hold();
        await source.get();
        broker.replace();
        const report = source.report(7);
        release();
        assert.equal((await report).generation, 8);
        assert.equal(broker.requests.length, 2);
    });

    test("follows a renewal that brings the same generation", async (t) => {
        const { source, broker, clock } = await startFakes(t);
        await source.get();
        clock.advance(600);
        await source.get();
        broker.revoke();
        assert.equal((await source.report(7)).generation, 8);
        assert.equal(broker.requests[1].rejected_generation, undefined);
        assert.equal(broker.requests[2].rejected_generation, "7");
    });

    test("follows a renewal that fails", async (t) => {
        const { source, broker, clock, warnings } = await startFakes(t);
        await source.get();
        clock.advance(600);
        broker.fault = OUTAGE;
        await source.get();
        broker.revoke();
        broker.beforeAnswer = () => {
            if (broker.requests.length === 3) broker.fault = undefined;
        };
        assert.equal((await source.report(7)).generation, 8);
        assert.equal(warnings.length, 1);
    });
});

describe("errors", () => {
    test("of the broker keep their code and class", async (t) => {
        const { source } = await startFakes(t);
        await assert.rejects(source.get({ account: "nobody" }), (error) => {
            assert.ok(error instanceof UnknownAccountError);
            assert.equal(error.name, "UnknownAccountError");
            assert.equal(error.code, "unknown_account");
            assert.equal(error.requestId, "request-1");
            assert.equal(error.retryAfter, undefined);
            return true;
        });
    });

    for (const change of [
        { access_token: null },
        { access_token: "two\r\nlines" },
        { access_token: "" },
        { expires_in: 0 },
        { expires_in: "900" },
        { expires_in: 604_801 },
        { expires_in: 1e308 },
        { generation: null },
        { account: "another" },
    ]) {
        test(`an answer with ${JSON.stringify(change)} is refused`, async () => {
            const answer = { access_token: "token-secret", expires_in: 900, generation: 9, ...change };
            const source = createTokenSource({ transport: { fetch: async () => answer } });
            await assert.rejects(source.get(), { code: "broker_unavailable" });
        });
    }
});
