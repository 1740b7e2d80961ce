// What a source refuses, warns about and throws. `behaviour.test.mjs` has the rules that all clients share.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { createTokenSource, InvalidRequestError, UnknownAccountError } from "token-broker";
import { fault, startFakes, until } from "./fakes.mjs";

test("a token names its account and its end", async (t) => {
    const { source, broker } = await startFakes(t);
    const token = await source.get({ minTtlSeconds: 300 });
    assert.deepEqual([token.accessToken, token.account, token.generation], ["token-secret-default-7", "default", 7]);
    assert.deepEqual([token.requestedAt, token.expiresAt], [1_000_000_000, 1_000_900_000]);
    assert.deepEqual(broker.requests, [{ account: "default", min_ttl_seconds: "300" }]);
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

for (const number of ["900", "900.0", "9E2", "604800"]) {
    test(`an answer may have the whole number ${number}`, async (t) => {
        const { source, broker } = await startFakes(t);
        broker.raw = [200, `{"access_token": "token-secret", "expires_in": ${number}, "generation": ${number}}`];
        const token = await source.get();
        assert.equal(token.expiresAt, 1_000_000_000 + token.generation * 1000);
        assert.equal(token.generation, Number(number));
    });
}

test("a token that ends too soon says by how much", async (t) => {
    const { source, broker } = await startFakes(t);
    broker.expiresIn = 20;
    const message = /the token lasts only 20 s; 30 s were requested$/;
    await assert.rejects(source.get({ minTtlSeconds: 30 }), { code: "token_expires_too_soon", message });
});

test("a token cannot be changed", async (t) => {
    const { source } = await startFakes(t);
    const token = await source.get();
    assert.ok(Object.isFrozen(token) && Object.isFrozen(token.extra));
});

test("a source leaves no timer behind", async (t) => {
    const { source } = await startFakes(t);
    const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === "Timeout").length;
    const before = timers();
    await source.get();
    assert.equal(timers(), before);
});

test("a renewal that fails is a warning", async (t) => {
    const { source, broker, clock, warnings } = await startFakes(t);
    await source.get();
    broker.fault = fault("upstream_unavailable", "the upstream does not answer", 12);
    await assert.rejects(source.report(7), { code: "upstream_unavailable" });
    await assert.rejects(source.get({ account: "emea" }), { code: "upstream_unavailable" });
    assert.deepEqual(warnings, [], "only a renewal has no caller that gets the error");
    clock.advance(600);
    assert.equal((await source.get()).generation, 7);
    await until(() => warnings.length === 1);
    assert.match(warnings[0], /account default is valid, but its renewal failed: upstream_unavailable/);
});

for (const [reason, name] of [[new SyntaxError("token-secret"), "SyntaxError"], [undefined, "undefined"]]) {
    test(`a warning names the reason ${name} without its text`, async (t) => {
        const { broker, clock, warnings, warn } = await startFakes(t);
        const transport = { fetch: async (request) => (await broker.answer(request))[1] };
        const source = createTokenSource({ transport, now: clock.now, warn });
        await source.get();
        transport.fetch = () => Promise.reject(reason);
        clock.advance(600);
        await source.get();
        await until(() => warnings.length === 1);
        assert.ok(warnings[0].endsWith(`its renewal failed: ${name}`));
    });
}

test("a transport may reject with nothing", async () => {
    const source = createTokenSource({ transport: { fetch: () => Promise.reject() } });
    assert.equal(await source.get().then(assert.fail, (reason) => reason), undefined);
});

test("a defect of a transport reaches the caller", async () => {
    const transport = { fetch: () => undefined.defect };
    const source = createTokenSource({ transport });
    await assert.rejects(source.get(), TypeError);
    await assert.rejects(source.get(), TypeError);
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

    for (const answer of [undefined, null, [], "access_token", 7]) {
        test(`the answer ${JSON.stringify(answer)} is refused`, async () => {
            const source = createTokenSource({ transport: { fetch: async () => answer } });
            await assert.rejects(source.get(), { code: "broker_unavailable" });
        });
    }
});
