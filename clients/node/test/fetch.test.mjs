// `brokerFetch`: which requests get a token, and what happens on a 401.

import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";
import { agent, brokerFetch, createTokenSource, UnavailableError } from "token-broker";
import { fault, GUARD, startFakes } from "./fakes.mjs";

async function startWithFetch(t) {
    const fakes = await startFakes(t);
    fakes.fetch = brokerFetch({ source: fakes.source, warn: fakes.warn });
    return fakes;
}

function stream() {
    return new ReadableStream({
        start(controller) {
            controller.enqueue(new TextEncoder().encode("streamed"));
            controller.close();
        },
    });
}

test("adds the token", async (t) => {
    const { fetch, url, apiRequests } = await startWithFetch(t);
    const headers = { "x-other": "kept", authorization: "Bearer of-the-caller" };
    const response = await fetch(`${url}/items`, { method: "POST", headers, body: "body" });
    assert.equal(response.status, 200);
    assert.deepEqual(await response.json(), { path: "/items" });
    const token = "token-secret-default-7";
    assert.deepEqual(apiRequests, [{ method: "POST", path: "/items", body: "body", token, other: "kept" }]);
});

test("takes a URL or a Request", async (t) => {
    const { fetch, url, apiRequests } = await startWithFetch(t);
    await fetch(new URL(`${url}/items`));
    await fetch(new Request(`${url}/items`, { method: "PUT", body: "body", headers: { "x-other": "kept" } }));
    assert.deepEqual(
        apiRequests.map(({ body }) => body),
        ["", "body"],
    );
    assert.ok(apiRequests.every(({ token }) => token === "token-secret-default-7"));
    assert.equal(apiRequests[1].other, "kept");
});

test("uses its options for the report too", async (t) => {
    const { source, url, broker } = await startFakes(t);
    broker.revoke("emea");
    const response = await brokerFetch({ source, account: "emea", minTtlSeconds: 90 })(`${url}/items`);
    assert.equal(response.status, 200);
    const asked = { account: "emea", min_ttl_seconds: "90" };
    assert.deepEqual(broker.requests, [asked, { ...asked, rejected_generation: "7" }]);
});

test("without a source asks the agent", async (t) => {
    const { url, port } = await startFakes(t);
    process.env.TOKEN_BROKER_PORT = String(port);
    process.env.TOKEN_BROKER_TOKEN = GUARD;
    t.after(() => {
        delete process.env.TOKEN_BROKER_PORT;
        delete process.env.TOKEN_BROKER_TOKEN;
    });
    assert.equal((await brokerFetch()(`${url}/items`)).status, 200);
});

for (const [name, body] of [
    ["no body", undefined],
    ["a body of null", null],
    ["text", "body"],
    ["a form", new URLSearchParams({ a: "1" })],
    ["bytes", new Uint8Array([1, 2])],
    ["an ArrayBuffer", new ArrayBuffer(2)],
    ["a Blob", new Blob(["body"])],
]) {
    test(`replaces a dead token once, with ${name}`, async (t) => {
        const { fetch, source, url, broker, apiRequests } = await startWithFetch(t);
        await source.get();
        broker.revoke();
        const response = await fetch(`${url}/items`, { method: "POST", body });
        assert.equal(response.status, 200);
        assert.deepEqual(
            apiRequests.map(({ token }) => token),
            ["token-secret-default-7", "token-secret-default-8"],
        );
        assert.equal(apiRequests[0].body, apiRequests[1].body);
        assert.equal(broker.requests.length, 2);
    });
}

test("sends an uploaded form again", async (t) => {
    const { fetch, source, url, broker, apiRequests } = await startWithFetch(t);
    await source.get();
    broker.revoke();
    const body = new FormData();
    body.set("file", new Blob(["content"]), "name");
    assert.equal((await fetch(`${url}/items`, { method: "POST", body })).status, 200);
    assert.ok(apiRequests.every((request) => request.body.includes("content")));
});

test("replaces a dead token for a Request without a body", async (t) => {
    const { fetch, source, url, broker } = await startWithFetch(t);
    await source.get();
    broker.revoke();
    assert.equal((await fetch(new Request(`${url}/items`))).status, 200);
});

test("does not retry without a newer generation", async (t) => {
    const { fetch, url, broker, apiRequests } = await startWithFetch(t);
    for (let attempt = 0; attempt < 3; attempt++) {
        const response = await fetch(`${url}/always-401`, { method: "POST", body: "body" });
        assert.equal(response.status, 401);
        assert.deepEqual(await response.json(), { message: "Unauthorized" });
    }
    assert.equal(apiRequests.length, 3);
    assert.equal(broker.requests.length, 2, "one token, one report");
});

test("does not retry twice", async (t) => {
    const { fetch, source, url, broker, apiRequests } = await startWithFetch(t);
    await source.get();
    broker.revoke();
    assert.equal((await fetch(`${url}/always-401`)).status, 401);
    assert.equal(apiRequests.length, 2);
    assert.equal(broker.requests.length, 2);
});

test("reports but does not resend a streamed body", async (t) => {
    const { fetch, source, url, broker, apiRequests } = await startWithFetch(t);
    await source.get();
    broker.revoke();
    const response = await fetch(`${url}/items`, { method: "POST", body: stream(), duplex: "half" });
    assert.equal(response.status, 401);
    assert.deepEqual(await response.json(), { message: "Unauthorized" });
    assert.equal((await source.get()).generation, 8, "the next request has a live token");
    assert.deepEqual(
        apiRequests.map(({ body }) => body),
        ["streamed"],
    );
});

const post = (url) => new Request(url, { method: "POST", body: "body", headers: { "x-other": "kept" } });
for (const [name, send] of [
    ["a Request", (fetch, url) => fetch(post(url))],
    ["a Request and options", (fetch, url) => fetch(post(url), { headers: { "x-other": "kept" } })],
    [
        "a Request and another body",
        (fetch, url) => fetch(new Request(url, { method: "POST", body: "old" }), { body: "body" }),
    ],
    ["a URL and a Request", (fetch, url) => fetch(url, post("http://127.0.0.1:9/other"))],
    [
        "a URL and a Request of a Request",
        (fetch, url) => fetch(url, new Request(post("http://127.0.0.1:9"), { body: "body" })),
    ],
    ["a Request and a Request", (fetch, url) => fetch(new Request(url), post("http://127.0.0.1:9/other"))],
    [
        "a Request with a stream",
        (fetch, url) => fetch(new Request(url, { method: "POST", body: new Blob(["body"]).stream(), duplex: "half" })),
    ],
]) {
    test(`sends ${name} as fetch does, and once more after a 401`, async (t) => {
        const { fetch, source, url, broker, apiRequests } = await startWithFetch(t);
        assert.equal((await send(fetch, `${url}/items`)).status, 200);
        await source.get();
        broker.revoke();
        assert.equal((await send(fetch, `${url}/items`)).status, 200);
        assert.deepEqual(
            apiRequests.map(({ method, path, body, token }) => [method, path, body, token.slice(-1)]),
            ["7", "7", "8"].map((generation) => ["POST", "/items", "body", generation]),
        );
    });
}

test("does not read a Request twice", async (t) => {
    const { fetch, url } = await startWithFetch(t);
    const request = post(`${url}/items`);
    await fetch(request);
    assert.equal(request.bodyUsed, true);
    await assert.rejects(fetch(request), TypeError);
});

for (const [name, create] of [
    [
        "ky",
        async (fetch, url) =>
            (await import("ky")).default.create({ fetch, prefixUrl: url }).post("items", { json: { a: 1 } }),
    ],
    [
        "openapi-fetch",
        async (fetch, url) =>
            (await import("openapi-fetch"))
                .default({ fetch, baseUrl: url })
                .POST("/items", { body: { a: 1 } })
                .then(({ response }) => response),
    ],
    [
        "axios",
        async (fetch, url) =>
            (await import("axios")).default
                .create({ adapter: "fetch", env: { fetch }, baseURL: url })
                .post("/items", { a: 1 }),
    ],
]) {
    test(`heals a 401 of ${name}`, async (t) => {
        const { fetch, source, url, broker, apiRequests } = await startWithFetch(t);
        await source.get();
        broker.revoke();
        assert.equal((await create(fetch, url)).status, 200);
        assert.deepEqual(
            apiRequests.map(({ method, body, token }) => [method, body, token.slice(-1)]),
            ["7", "8"].map((generation) => ["POST", '{"a":1}', generation]),
        );
    });
}

test("returns the 401 if the report fails", async (t) => {
    const { fetch, source, url, broker, warnings } = await startWithFetch(t);
    await source.get();
    broker.revoke();
    broker.fault = fault("upstream_unavailable", "the upstream does not answer", 12);
    assert.equal((await fetch(`${url}/items`)).status, 401);
    assert.match(warnings[0], /the report failed: upstream_unavailable/);
});

test("a defect of a source reaches the caller", async () => {
    const token = { authorization: "Bearer t", generation: 7 };
    const source = { get: async () => token, report: async () => undefined.defect };
    const fetch = async () => new Response(null, { status: 401 });
    await assert.rejects(brokerFetch({ source, fetch })("https://platform-api.convirza.com"), TypeError);
});

test("rejects if there is no token", async (t) => {
    const { fetch, url, broker, apiRequests } = await startWithFetch(t);
    broker.fault = fault("login_budget_exhausted", "no login is free", 30);
    await assert.rejects(
        fetch(`${url}/items`),
        (error) => error instanceof UnavailableError && error.retryAfter === 30,
    );
    assert.equal(apiRequests.length, 0);
});

for (const [name, call] of [
    ["a POST", (fetch, url) => fetch(url, { method: "POST" })],
    ["a Request", (fetch, url) => fetch(new Request(url, { method: "POST" }))],
]) {
    test(`does not repeat ${name} that took effect before a redirect`, async (t) => {
        const { fetch, source, url, apiRequests } = await startWithFetch(t);
        assert.equal((await call(fetch, `${url}/effect`)).status, 401);
        assert.deepEqual(
            apiRequests.map(({ path }) => path),
            ["/effect", "/items"],
        );
        assert.equal((await source.get()).generation, 8, "the token was reported");
    });
}

for (const method of [undefined, "HEAD", "options"]) {
    test(`repeats ${method ?? "GET"} after a redirect`, async (t) => {
        const { fetch, url, apiRequests } = await startWithFetch(t);
        assert.equal((await fetch(`${url}/effect`, { method })).status, 200);
        assert.deepEqual(
            apiRequests.map(({ path }) => path),
            ["/effect", "/items", "/effect", "/items"],
        );
    });
}

test("does not report the 401 of another host", async (t) => {
    const { fetch, url, broker, apiRequests } = await startWithFetch(t);
    assert.equal((await fetch(`${url}/elsewhere`, { method: "POST", body: "body" })).status, 401);
    assert.deepEqual(
        apiRequests.map(({ token }) => token),
        ["token-secret-default-7", undefined],
    );
    assert.equal(broker.requests.length, 1);
});

test("apiUrl limits the token to one origin", async (t) => {
    const { source, url, broker, apiRequests } = await startFakes(t);
    assert.equal((await brokerFetch({ source, apiUrl: "http://127.0.0.1/v3" })(`${url}/items`)).status, 401);
    assert.equal(broker.requests.length, 0);
    assert.equal(
        (await brokerFetch({ source, apiUrl: new URL(`${url}/v3`) })(new Request(`${url}/items`))).status,
        200,
    );
    assert.deepEqual(
        apiRequests.map(({ token }) => token),
        [undefined, "token-secret-default-7"],
    );
});

for (const [apiUrl, url, hasToken] of [
    ["https://x.example", "https://X.example:443/items", true],
    ["http://x.example:80", "http://x.example/items", true],
    ["https://x.example", "http://x.example:443/items", false],
    ["https://x.example", "https://x.example:8443/items", false],
    ["https://x.example", "https://y.example/items", false],
]) {
    test(`apiUrl ${apiUrl} ${hasToken ? "includes" : "excludes"} ${url}`, async (t) => {
        const { source } = await startFakes(t);
        const fetch = async (_, init) => new Response(String(new Headers(init?.headers).has("authorization")));
        assert.equal(await (await brokerFetch({ source, apiUrl, fetch })(url)).text(), String(hasToken));
    });
}

for (const apiUrl of ["", null, "127.0.0.1", "platform-api.convirza.com", "localhost:80", "ftp://x", "https://"]) {
    test(`apiUrl must be a URL, not ${JSON.stringify(apiUrl)}`, () => {
        assert.throws(() => brokerFetch({ apiUrl }), { name: "NotConfiguredError", message: /apiUrl/ });
    });
}

test("fifty calls share one report", async (t) => {
    const { fetch, source, url, broker } = await startWithFetch(t);
    await source.get();
    broker.revoke();
    const responses = await Promise.all(Array.from({ length: 50 }, () => fetch(`${url}/items`)));
    assert.ok(responses.every((response) => response.status === 200));
    assert.equal(broker.requests.length, 2);
});

for (const [name, send] of [
    ["a URL", (fetch, url, signal) => fetch(url, { signal })],
    ["a Request", (fetch, url, signal) => fetch(new Request(url, { signal }))],
]) {
    test(`an abort ends the wait of ${name} for a token, for this caller only`, async (t) => {
        const { fetch, source, url, broker } = await startWithFetch(t);
        const release = broker.hold();
        const abort = new AbortController();
        const aborted = send(fetch, `${url}/items`, abort.signal);
        const other = source.get();
        abort.abort(new Error("enough"));
        await assert.rejects(aborted, { message: "enough" });
        await assert.rejects(send(fetch, `${url}/items`, abort.signal), { message: "enough" });
        release();
        assert.equal((await other).generation, 7);
        assert.equal(broker.requests.length, 1);
    });
}

test("a signal keeps no listener", async (t) => {
    const { source } = await startFakes(t);
    const { signal } = new AbortController();
    await brokerFetch({ source, fetch: async () => new Response() })("https://x.example", { signal });
    assert.deepEqual(getEventListeners(signal, "abort"), []);
});

test("may replace the global fetch", async (t) => {
    const { url, port } = await startFakes(t);
    const original = globalThis.fetch;
    t.after(() => (globalThis.fetch = original));
    globalThis.fetch = brokerFetch({ source: createTokenSource({ transport: agent({ port, token: GUARD }) }) });
    assert.equal((await fetch(`${url}/items`)).status, 200);
});
