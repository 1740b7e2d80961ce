// The Node.js client against an agent, which it finds through its environment only.

import assert from "node:assert/strict";
import { AccessDeniedError, agent, createTokenSource } from "token-broker";

const { CONVIRZA_URL } = process.env;

async function callApi({ authorization }) {
    const response = await fetch(`${CONVIRZA_URL}/v3/users/list`, { headers: { authorization } });
    assert.equal(response.status, 200);
}

const source = createTokenSource();
const token = await source.get();
await callApi(token);
assert.equal(await source.get(), token, "it keeps its token");

await fetch(`${CONVIRZA_URL}/_emulator/revoke-sessions`, { method: "POST" });
const renewed = await createTokenSource().report(token.generation);
assert.ok(renewed.generation > token.generation, "a dead token is replaced");
await callApi(renewed);

const stranger = createTokenSource({ transport: agent({ token: "another" }) });
await assert.rejects(stranger.get(), AccessDeniedError);
