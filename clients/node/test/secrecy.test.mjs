// Tokens appear in no text form, warning or error.

import assert from "node:assert/strict";
import { test } from "node:test";
import { format, inspect } from "node:util";
import { agent, brokerFetch, createTokenSource, httpApi, lambda } from "token-broker";
import { closedPort, fault, GUARD, startFakes } from "./fakes.mjs";

const reveals = (text) => text.includes("token-secret") || text.includes(GUARD);

function everythingAbout(value) {
    const options = { depth: Infinity, showHidden: true, getters: true };
    return [
        String(value),
        inspect(value, options),
        format("%s %o %O %j", value, value, value, value),
        value?.stack ?? "",
    ];
}

test("text forms of a token", async (t) => {
    const { source } = await startFakes(t);
    const token = await source.get();
    assert.equal(token.authorization, "Bearer token-secret-default-7");
    const copies = [JSON.stringify(token), JSON.stringify({ token }), JSON.stringify({ ...token })];
    const cloned = inspect(structuredClone(token), { depth: Infinity });
    for (const text of [...everythingAbout(token), `${token}`, cloned, ...copies]) {
        assert.ok(!reveals(text), "a text form of the token contains it");
    }
    assert.match(String(token), /generation=7/);
    assert.match(inspect(token), /^Token \{.*generation: 7/s);
    assert.match(JSON.stringify(token), /"generation":7/);
});

test("text forms of sources and transports", async (t) => {
    const { source, url } = await startFakes(t);
    await source.get();
    const values = [
        source,
        agent({ token: GUARD }),
        lambda({ functionName: "f" }),
        httpApi({ url }),
        brokerFetch({ source }),
    ];
    for (const text of values.flatMap(everythingAbout)) assert.ok(!reveals(text));
});

test("errors", async (t) => {
    const { broker, source, port } = await startFakes(t);
    const unusable = (accessToken) =>
        createTokenSource({
            transport: { fetch: async () => ({ access_token: accessToken, expires_in: 900, generation: 7 }) },
        });
    broker.raw = [200, '{"access_token": "token-secret", "expires'];
    const nothing = await closedPort(t);
    for (const failing of [
        source,
        unusable("token-secret\r\nx-evil: 1"),
        unusable("token-secret\u00e9"),
        createTokenSource({ transport: agent({ port, token: `${GUARD}\r\n` }) }),
        createTokenSource({ transport: agent({ port: nothing, token: GUARD }) }),
    ]) {
        const error = await failing.get().then(assert.fail, (reason) => reason);
        assert.equal(error.cause, undefined);
        for (const text of everythingAbout(error)) assert.ok(!reveals(text));
    }
});

test("warnings, and what is printed by default", async (t) => {
    const { broker, clock, port, url } = await startFakes(t);
    const printed = t.mock.method(console, "warn", () => {});
    const source = createTokenSource({ transport: agent({ port, token: GUARD }), now: clock.now });
    await source.get();
    broker.fault = fault("upstream_unavailable", "the upstream does not answer");
    broker.revoke();
    await brokerFetch({ source })(`${url}/items`);
    clock.advance(600);
    await source.get();
    await source.report(7).catch(() => {});
    assert.equal(printed.mock.callCount(), 2);
    for (const call of printed.mock.calls) assert.ok(!reveals(format(...call.arguments)));
});

test("errors of fetch", async (t) => {
    const { source } = await startFakes(t);
    const port = await closedPort(t);
    const error = await brokerFetch({ source })(`http://127.0.0.1:${port}/items`).then(assert.fail, (reason) => reason);
    for (const text of everythingAbout(error)) assert.ok(!reveals(text));
});
