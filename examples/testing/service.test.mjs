import assert from "node:assert";
import test from "node:test";
import { nameOf } from "./service.mjs";
const stack = (method, path, body) =>
    fetch(`${process.env.CONVIRZA_API_URL}/_emulator/${path}`, { method, body: body && JSON.stringify(body) });

test("callers do not notice a revocation", async () => {
    await stack("POST", "reset");
    await stack("PUT", "routes", [{ path: "/v3/calls/*", body: { name: "Ada" } }]);
    assert.equal(await nameOf(7), "Ada");
    await stack("POST", "revoke-sessions");
    assert.equal(await nameOf(7), "Ada");
});
