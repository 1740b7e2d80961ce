// Tests the Lambda in Node.js against the local stack.

import assert from "node:assert/strict";
import { InvokeCommand, LambdaClient } from "@aws-sdk/client-lambda";

let invocations = 0;
const { send } = LambdaClient.prototype;
LambdaClient.prototype.send = function (...call) {
    invocations += 1;
    return send.apply(this, call);
};
const { handler, Tokens, BrokerError } = await import("./caller.mjs");

const emulator = async (method, path, body) => {
    const url = `${process.env.CONVIRZA_URL}/_emulator/${path}`;
    const response = await fetch(url, { method, body: body && JSON.stringify(body) });
    assert.ok(response.ok, `${method} ${path}: ${response.status}`);
    return response.status === 204 ? undefined : response.json();
};

const eightTimes = (work) => Promise.all(Array.from({ length: 8 }, work));

const eightAtOnce = async () => {
    for (const answer of await eightTimes(() => handler({}))) assert.equal(answer.result, "success");
};

const at = async (instant, work) => {
    const { now } = Date;
    Date.now = () => instant;
    await work().finally(() => (Date.now = now));
};

const tests = {
    async keeps_its_token_until_it_expires() {
        const instant = Date.now();
        await at(instant, eightAtOnce);
        assert.equal(invocations, 1);
        await at(instant + 899_900, () => handler({}));
        assert.equal(invocations, 1);
        await at(instant + 900_000, () => handler({}));
        assert.equal(invocations, 2);
    },

    async reports_a_refused_token_once() {
        await handler({});
        const before = await emulator("GET", "observed");
        await emulator("POST", "revoke-sessions?access_only=true");
        await eightAtOnce();
        assert.equal(invocations, 2);
        const after = await emulator("GET", "observed");
        assert.equal(after.refreshes, before.refreshes + 1);
        assert.equal(after.logins_arrived, before.logins_arrived);

        // All reports at the same instant.
        const tokens = new Tokens(new LambdaClient());
        const rejected = await tokens.get();
        await emulator("POST", "revoke-sessions?access_only=true");
        await eightTimes(() => tokens.report(rejected));
        assert.equal(invocations, 4);
    },

    async gives_up_after_the_second_401() {
        await emulator("PUT", "faults", { endpoint: "api", fault: "wrong_password" });
        const { fetch } = globalThis;
        let requests = 0;
        globalThis.fetch = (...call) => {
            requests += 1;
            return fetch(...call);
        };
        await assert.rejects(handler({}), /401/).finally(() => (globalThis.fetch = fetch));
        assert.equal(requests, 2);
        assert.equal(invocations, 2);
    },

    async raises_the_brokers_error_with_its_code() {
        const client = new LambdaClient();
        const { code, retryAfter } = await new Tokens(client, "nobody").get().catch((error) => error);
        assert.deepEqual({ code, retryAfter }, { code: "unknown_account", retryAfter: undefined });
        const FunctionName = "token-broker:operator";
        await client.send(new InvokeCommand({ FunctionName, Payload: '{"action":"revoke"}' }));
        await emulator("PUT", "faults", { endpoint: "login", fault: "server_error" });
        const error = await handler({}).catch((error) => error);
        assert.ok(error instanceof BrokerError, String(error));
        assert.equal(error.code, "upstream_unavailable");
        assert.ok(error.retryAfter > 0);
    },
};

await tests[process.argv[2]]().finally(() => emulator("DELETE", "faults"));
