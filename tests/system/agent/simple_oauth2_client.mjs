// simple-oauth2 against the agent: given a URL and a secret, which is the guard token.

import assert from "node:assert/strict";
import { ClientCredentials } from "simple-oauth2";

const { AGENT_URL, CONVIRZA_URL, GUARD_TOKEN } = process.env;

const client = (secret, options) =>
    new ClientCredentials({
        client: { id: "any", secret },
        auth: { tokenHost: AGENT_URL, tokenPath: "/oauth/token" },
        options,
    });

const tests = {
    async obtains_a_token() {
        for (const authorizationMethod of ["header", "body"]) {
            const { token } = await client(GUARD_TOKEN, { authorizationMethod }).getToken({ scope: ["any", "scope"] });
            const headers = { authorization: `${token.token_type} ${token.access_token}` };
            const response = await fetch(`${CONVIRZA_URL}/v3/users/list`, { headers });
            assert.equal(response.status, 200, authorizationMethod);
        }
    },

    async with_another_secret_is_refused() {
        await assert.rejects(client("another").getToken(), (error) => {
            assert.equal(error.output.statusCode, 401);
            assert.equal(error.data.payload.error, "invalid_client");
            return true;
        });
    },
};

await tests[process.argv[2]]();
