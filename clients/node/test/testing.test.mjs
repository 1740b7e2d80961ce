// `token-broker/testing`, its section of the README, and the package's metadata.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile, rm, writeFile } from "node:fs/promises";
import { test } from "node:test";
import { promisify } from "node:util";
import { FakeBroker } from "token-broker/testing";
import { fault, readJson, readText } from "./fakes.mjs";

const inPackage = (file) => readFile(new URL(file, import.meta.resolve("token-broker")), "utf8");

test("the README's tests pass", async (t) => {
    const section = (await inPackage("README.md")).split("## Testing your code\n")[1].split("\n## ")[0];
    const [, code] = /```js\n(.*?)```/s.exec(section);
    // Beside this file, where the package is found.
    const file = new URL("readme.mjs", import.meta.url);
    await writeFile(file, code);
    t.after(() => rm(file));
    const env = { ...process.env, NODE_TEST_CONTEXT: undefined };
    const { stdout } = await promisify(execFile)(process.execPath, ["--test-reporter=tap", file.pathname], { env });
    assert.match(stdout, /^# pass 3$/m);
    assert.match(stdout, /^# fail 0$/m);
});

test("a fake keeps accounts apart", async () => {
    const broker = new FakeBroker();
    const source = broker.source();
    broker.revoke("emea");
    await source.get();
    await source.get({ account: "emea" });
    assert.ok(broker.accepts((await source.get()).authorization));
    assert.ok(!broker.accepts((await source.get({ account: "emea" })).authorization));
    assert.equal((await source.report(1, { account: "emea" })).generation, 2);
    assert.ok(broker.accepts((await source.get({ account: "emea" })).authorization));
    assert.deepEqual(broker.requests.at(-1), { account: "emea", rejected_generation: 1 });
});

test("a fake does not replace a token that is alive", async () => {
    const source = new FakeBroker().source();
    assert.equal((await source.report((await source.get()).generation)).generation, 1);
});

test("a fake accepts only the tokens that it handed out", async () => {
    const broker = new FakeBroker();
    assert.ok(!broker.accepts("Bearer fake-token-default-1"));
    const { accessToken, authorization } = await broker.source().get();
    assert.ok(broker.accepts(authorization));
    assert.ok(!broker.accepts(null) && !broker.accepts(accessToken));
});

test("a source of a fake renews at two thirds of the lifetime, without chance", async () => {
    const broker = new FakeBroker();
    const source = broker.source();
    for (const [seconds, calls] of [[0, 1], [599.9, 1], [0.1, 2]]) {
        broker.advance(seconds);
        await source.get();
        assert.equal(broker.requests.length, calls);
    }
});

test("a fake recovers", async () => {
    const broker = new FakeBroker({ expiresIn: 60 });
    const source = broker.source();
    broker.fail("broker_unavailable");
    await assert.rejects(source.get(), { code: "broker_unavailable" });
    broker.recover();
    broker.advance(1);
    assert.equal((await source.get()).expiresAt - broker.now, 60_000);
});

test("the package names its project", async () => {
    const manifest = JSON.parse(await inPackage("package.json"));
    const setting = (name) => new RegExp(`^${name} = "(.*)"$`, "m").exec(readText("Cargo.toml"))[1];
    assert.equal(manifest.homepage, setting("repository"));
    assert.equal(manifest.repository.url, `git+${setting("repository")}.git`);
    assert.deepEqual([manifest.version, manifest.license], [setting("version"), setting("license")]);
    assert.ok(manifest.description && manifest.keywords.length && !manifest.private);
    assert.match(await inPackage("README.md"), /^# token-broker for Node\.js/);
    assert.match(await inPackage("LICENSE-MIT"), /^MIT License/);
});

test("the codes are the contract's", async () => {
    const { brokerError } = await import(new URL("errors.mjs", import.meta.resolve("token-broker")));
    const {
        errors,
        error_fields,
        client_errors: own,
        agent: [agent],
        default_min_ttl_seconds,
        longest_lifetime_seconds,
        names,
    } = readJson("crates/contract/contract.json");
    for (const { code, retry } of errors) {
        assert.equal(brokerError(code, "d").name === "UnavailableError", retry, code);
    }
    const codes = [...errors.map(({ code }) => code), ...own];
    const spelled = [...(await inPackage("errors.mjs")).matchAll(/\["([a-z_]+)",/g)].map(([, code]) => code);
    assert.deepEqual(
        spelled.filter((code) => !codes.includes(code)),
        [],
    );
    const unclassed = codes.filter((code) => brokerError(code, "d").name === "TokenBrokerError");
    assert.deepEqual(unclassed, ["misconfigured", "internal", "token_expires_too_soon"]);
    // The other tests read errors of these fields.
    assert.deepEqual(Object.keys(fault("internal", "d", 12)).sort(), error_fields);
    const source = await inPackage("source.mjs");
    assert.ok(source.includes(`DEFAULT_MIN_TTL_SECONDS = ${default_min_ttl_seconds};`));
    assert.equal(longest_lifetime_seconds, 7 * 86_400);
    assert.ok(source.includes("MAX_LIFETIME_SECONDS = 7 * 86_400;"));
    const transports = await inPackage("transports.mjs");
    assert.ok(transports.includes(`: ${agent.port};`) && transports.includes(`"${agent.guard_headers[0]}"`));
    assert.ok(source.includes(`ACCOUNT = /${names.find((name) => name.of === "account").pattern}/`));
});

test("the fields and the rule of a name are the contract's", async () => {
    const { fields, answer_fields, served_from, names } = readJson("crates/contract/contract.json");
    const broker = new FakeBroker();
    broker.extra = { instance_url: "https://x.example" };
    const answer = await broker.fetch({ account: "default", minTtlSeconds: 60, rejectedGeneration: 7 });
    const parameters = fields.filter(({ parameter }) => parameter).map(({ name }) => name);
    assert.deepEqual([...Object.keys(broker.requests[0]), "client"], parameters);
    const written = answer_fields.filter((name) => name !== "expires_at");
    assert.deepEqual(Object.keys(answer), written);
    assert.ok(served_from.includes(answer.served_from));
    // A source that reads another name finds no token.
    const token = await broker.source().get();
    assert.ok(token.accessToken);
    assert.deepEqual(token.extra, broker.extra);
    for (const extra of [["no object"], "text"]) {
        broker.extra = extra;
        assert.deepEqual((await broker.source().get()).extra, {});
    }
    const { rule } = names.find((name) => name.of === "account");
    await assert.rejects(broker.source().get({ account: "No" }), {
        code: "invalid_request",
        message: new RegExp(`must be ${rule}`),
    });
});
