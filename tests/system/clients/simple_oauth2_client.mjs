// simple-oauth2 against POST /token: given the URL, it says when a token has expired.

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { ClientCredentials, ResourceOwnerPassword } from "simple-oauth2";

const { BROKER_URL, CONVIRZA_URL } = process.env;

const configuration = (options) => ({
    client: { id: "any", secret: "any" },
    auth: { tokenHost: BROKER_URL, tokenPath: "/token" },
    options,
});
const client = (options) => new ClientCredentials(configuration(options));

const callApi = async ({ token }) => {
    const headers = { authorization: `${token.token_type} ${token.access_token}` };
    assert.equal((await fetch(`${CONVIRZA_URL}/v3/users/list`, { headers })).status, 200);
};

// This client's errors are those of its HTTP library, which hold the response.
const refused = async (status, code, request) => {
    const error = await request.then(() => assert.fail("there was a token"), (error) => error);
    assert.equal(error.output?.statusCode, status, error);
    assert.equal(error.data.payload.error, code);
    assert.ok(error.data.payload.error_description);
    return error.data;
};

const tests = {
    async obtains_a_token_and_keeps_it() {
        for (const authorizationMethod of ["header", "body"]) {
            const token = await client({ authorizationMethod }).getToken({ scope: ["any", "scope"] });
            assert.equal(token.expired(890), false);
            assert.equal(token.expired(900), true);
            await callApi(token);
        }
    },

    async renews_it_when_it_has_expired() {
        const first = await client().getToken();
        assert.equal(first.expired(), false);
        await callApi(first);
        for (const end = Date.now() + 30_000; !first.expired(); await sleep(50)) assert.ok(Date.now() < end);
        const second = await client().getToken();
        assert.equal(second.expired(), false);
        assert.notEqual(second.token.access_token, first.token.access_token);
        await callApi(second);
    },

    async reports_errors() {
        const password = new ResourceOwnerPassword(configuration()).getToken({ username: "me", password: "none" });
        await refused(400, "unsupported_grant_type", password);
        await refused(400, "invalid_request", client().getToken({ min_ttl_seconds: "soon" }));
        await refused(404, "unknown_account", client().getToken({ account: "nobody" }));
    },

    async reports_an_outage() {
        await fetch(`${BROKER_URL}/revoke`, { method: "POST" });
        const fault = JSON.stringify({ endpoint: "login", fault: "server_error" });
        await fetch(`${CONVIRZA_URL}/_emulator/faults`, { method: "PUT", body: fault });
        try {
            const { payload, res } = await refused(503, "upstream_unavailable", client().getToken());
            assert.equal(res.headers["retry-after"], String(payload.retry_after));
        } finally {
            await fetch(`${CONVIRZA_URL}/_emulator/faults`, { method: "DELETE" });
        }
    },
};

await tests[process.argv[2]]();
