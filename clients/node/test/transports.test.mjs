// The three ways to the broker, over real HTTP, with the AWS packages if they are installed.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import {
    AccessDeniedError,
    agent,
    createTokenSource,
    CredentialsRejectedError,
    httpApi,
    InvalidRequestError,
    lambda,
    NotConfiguredError,
    TokenBrokerError,
    UnavailableError,
    UnknownAccountError,
} from "token-broker";
import { AWS, closedPort, fault, GUARD, startFakes } from "./fakes.mjs";

const run = promisify(execFile);
const sdk = await import("@aws-sdk/client-lambda").catch(() => undefined);
const signing = await import("@smithy/signature-v4").catch(() => undefined);
const skipLambda = sdk ? false : "@aws-sdk/client-lambda is not installed";
const skipSigning = signing ? false : "@smithy/signature-v4 is not installed";

function lambdaClient(fakes, options) {
    return new sdk.LambdaClient({ endpoint: fakes.url, maxAttempts: 1, ...AWS, ...options });
}

const TRANSPORTS = [
    ["agent", false, ({ port }, options) => agent({ port, token: GUARD, ...options })],
    [
        "lambda",
        skipLambda,
        (fakes, options) => lambda({ functionName: "token-broker:live", client: lambdaClient(fakes), ...options }),
    ],
    ["httpApi", skipSigning, ({ url }, options) => httpApi({ url: `${url}/prod`, ...AWS, ...options })],
];

function setVariables(t, variables) {
    for (const [name, value] of Object.entries(variables)) {
        process.env[name] = value;
        t.after(() => delete process.env[name]);
    }
}

for (const [name, skip, make] of TRANSPORTS) {
    describe(name, { skip }, () => {
        test("gets a token", async (t) => {
            const fakes = await startFakes(t);
            const source = createTokenSource({ transport: make(fakes) });
            const token = await source.get({ account: "emea", minTtlSeconds: 120 });
            assert.equal(token.accessToken, "token-secret-emea-7");
            const [{ account, min_ttl_seconds: minTtl }] = fakes.broker.requests;
            assert.deepEqual([account, Number(minTtl)], ["emea", 120]);
        });

        test("reports a large generation", async (t) => {
            const fakes = await startFakes(t);
            const source = createTokenSource({ transport: make(fakes) });
            fakes.broker.generations.set("default", 1_775_478_896_123);
            await source.get();
            fakes.broker.revoke();
            assert.equal((await source.report(1_775_478_896_123)).generation, 1_775_478_896_124);
        });

        for (const [code, kind, retryAfter] of [
            ["access_denied", AccessDeniedError],
            ["unknown_account", UnknownAccountError],
            ["credentials_rejected", CredentialsRejectedError],
            ["bad_secret", CredentialsRejectedError],
            ["grant_lost", CredentialsRejectedError],
            ["login_budget_exhausted", UnavailableError, 12],
            ["upstream_rate_limited", UnavailableError, 3600],
            ["upstream_unavailable", UnavailableError, 2],
            ["refresh_in_progress", UnavailableError, 1],
            ["store_unavailable", UnavailableError],
            ["secret_unavailable", UnavailableError],
            ["internal", TokenBrokerError],
            ["a_code_of_a_later_version", TokenBrokerError, 5],
        ]) {
            test(`passes ${code} on`, async (t) => {
                const fakes = await startFakes(t);
                fakes.broker.fault = fault(code, "what happened", retryAfter);
                await assert.rejects(createTokenSource({ transport: make(fakes) }).get(), (error) => {
                    assert.equal(error.constructor, kind);
                    assert.equal(error.code, code);
                    assert.equal(error.description, "what happened");
                    assert.equal(error.retryAfter, retryAfter);
                    return true;
                });
            });
        }

        if (name !== "agent") {
            for (const [variables, client] of [
                [{ TOKEN_BROKER_CLIENT: "billing", AWS_LAMBDA_FUNCTION_NAME: "f" }, "billing"],
                [{ TOKEN_BROKER_CLIENT: "", AWS_LAMBDA_FUNCTION_NAME: "f" }, "f"],
                [{}, undefined],
            ]) {
                test(`names the caller ${client}`, async (t) => {
                    setVariables(t, variables);
                    const fakes = await startFakes(t);
                    await createTokenSource({ transport: make(fakes) }).get();
                    assert.deepEqual(
                        fakes.broker.requests.map((request) => request.client),
                        [client],
                    );
                });
            }

            test("does not name the caller again once that is refused", async (t) => {
                setVariables(t, { TOKEN_BROKER_CLIENT: "billing" });
                const fakes = await startFakes(t);
                fakes.broker.knowsClient = false;
                const source = createTokenSource({ transport: make(fakes) });
                assert.equal((await source.get()).generation, 7);
                assert.equal((await source.get({ account: "emea" })).generation, 7);
                assert.deepEqual(
                    fakes.broker.requests.map((request) => "client" in request),
                    [true, false, false],
                );
            });

            test("names the caller again after another refusal", async (t) => {
                setVariables(t, { TOKEN_BROKER_CLIENT: "billing" });
                const fakes = await startFakes(t);
                const source = createTokenSource({ transport: make(fakes) });
                await assert.rejects(source.get({ minTtlSeconds: 901 }), InvalidRequestError);
                await source.get();
                assert.ok(fakes.broker.requests.every((request) => request.client === "billing"));
            });
        }

        test("gives up after the timeout", async (t) => {
            const fakes = await startFakes(t);
            t.after(fakes.broker.hold());
            const source = createTokenSource({ transport: make(fakes, { timeoutMs: 1 }) });
            const message = /no answer within 0\.001 s|TimeoutError|AbortError/;
            await assert.rejects(source.get(), { name: "UnavailableError", message });
        });

        test("has the documented timeout", async (t) => {
            const timeout = t.mock.method(AbortSignal, "timeout");
            await createTokenSource({ transport: make(await startFakes(t)) }).get();
            assert.deepEqual(timeout.mock.calls[0].arguments, [name === "agent" ? 25_000 : 30_000]);
        });

        test("passes the limit of the minimum on", async (t) => {
            const source = createTokenSource({ transport: make(await startFakes(t)) });
            await assert.rejects(source.get({ minTtlSeconds: 901 }), InvalidRequestError);
        });

        for (const status of [200, 404, 502]) {
            for (const body of ["", "<html>", "[]", '{"access_token": "token-secret']) {
                test(`turns ${status} with ${JSON.stringify(body)} into an error`, async (t) => {
                    const fakes = await startFakes(t);
                    for (const raw of [[status, body], [status, body, {}]]) {
                        fakes.broker.raw = raw;
                        const source = createTokenSource({ transport: make(fakes) });
                        await assert.rejects(source.get(), { code: "broker_unavailable" });
                    }
                });
            }
        }
    });
}

describe("agent", () => {
    for (const variables of [
        { TOKEN_BROKER_TOKEN: GUARD, AWS_SESSION_TOKEN: "wrong" },
        { AWS_SESSION_TOKEN: GUARD, AWS_CONTAINER_AUTHORIZATION_TOKEN: "wrong" },
        { TOKEN_BROKER_TOKEN: "", AWS_CONTAINER_AUTHORIZATION_TOKEN: GUARD },
        { TOKEN_BROKER_TOKEN: ` ${GUARD}\r\n` },
    ]) {
        test(`finds the guard token in ${Object.keys(variables)}`, async (t) => {
            const { port } = await startFakes(t);
            setVariables(t, { ...variables, TOKEN_BROKER_PORT: String(port) });
            assert.equal((await createTokenSource().get()).generation, 7);
        });
    }

    test("reads the guard token from a file each time", async (t) => {
        const { port, brokerHeaders, clock } = await startFakes(t);
        const folder = await mkdtemp(join(tmpdir(), "token-broker-"));
        t.after(() => rm(folder, { recursive: true }));
        const file = join(folder, "guard");
        await writeFile(file, "old");
        setVariables(t, { TOKEN_BROKER_TOKEN: `file://${file}` });
        const source = createTokenSource({ transport: agent({ port }), now: clock.now });
        await assert.rejects(source.get(), AccessDeniedError);
        await writeFile(file, `${GUARD}\n`);
        clock.advance(0.25);
        assert.equal((await source.get()).generation, 7);
        assert.equal(brokerHeaders[1]["x-token-broker-token"], GUARD);
    });

    for (const token of [undefined, "file:///does/not/exist", "two\r\nlines", "caf\u00e9"]) {
        test(`says what is wrong with the guard token ${JSON.stringify(token)}`, async () => {
            const source = createTokenSource({ transport: agent({ token }) });
            await assert.rejects(source.get(), { name: "NotConfiguredError", message: /guard token/ });
        });
    }

    test("ignores the port that Kubernetes sets", async (t) => {
        setVariables(t, { TOKEN_BROKER_PORT: "tcp://10.0.0.1:80", TOKEN_BROKER_TOKEN: GUARD });
        const message = /the agent on 127\.0\.0\.1:2774/;
        await assert.rejects(createTokenSource({ transport: agent({ timeoutMs: 1 }) }).get(), { message });
    });

    for (const port of ["1", "65535"]) {
        test(`may have the port ${port}`, async () => {
            const source = createTokenSource({ transport: agent({ port, token: GUARD }) });
            await assert.rejects(source.get(), { name: "UnavailableError" }); // nothing listens there
        });
    }

    for (const port of ["http", "0", "65536", "-1"]) {
        test(`says what is wrong with the port ${port}`, async (t) => {
            setVariables(t, { TOKEN_BROKER_PORT: port, TOKEN_BROKER_TOKEN: GUARD });
            await assert.rejects(createTokenSource().get(), {
                name: "NotConfiguredError",
                message: /TOKEN_BROKER_PORT/,
            });
        });
    }

    test("that does not run is unavailable", async (t) => {
        const port = await closedPort(t);
        const source = createTokenSource({ transport: agent({ port, token: GUARD }) });
        const message = `broker_unavailable: the agent on 127.0.0.1:${port} does not answer: ECONNREFUSED`;
        await assert.rejects(source.get(), { name: "UnavailableError", message });
    });

    for (const [given, retryAfter] of [[0, 0], [999_999_999, 999_999_999], [1e9, undefined], [-1, undefined]]) {
        test(`a retry time of ${given} s is ${retryAfter ?? "ignored"}`, async (t) => {
            const { port, broker } = await startFakes(t);
            broker.raw = [503, JSON.stringify(fault("store_unavailable", "DynamoDB does not answer", given))];
            const source = createTokenSource({ transport: agent({ port, token: GUARD }) });
            await assert.rejects(source.get(), { code: "store_unavailable", retryAfter });
        });
    }

    test("a retry time in the header needs no body", async (t) => {
        const { port, broker } = await startFakes(t);
        const source = createTokenSource({ transport: agent({ port, token: GUARD }) });
        broker.raw = [503, { error: "store_unavailable" }, { "retry-after": "12" }];
        await assert.rejects(source.get(), { code: "store_unavailable", description: "", retryAfter: 12 });
        broker.raw = [503, "busy", { "retry-after": "999999999" }];
        await assert.rejects(source.get({ account: "emea" }), { code: "broker_unavailable", retryAfter: 999_999_999 });
    });

    test("a retry time in the body needs no header", async (t) => {
        const { port, broker } = await startFakes(t);
        broker.raw = [503, JSON.stringify(fault("store_unavailable", "DynamoDB does not answer", 12))];
        const source = createTokenSource({ transport: agent({ port, token: GUARD }) });
        await assert.rejects(source.get(), { code: "store_unavailable", retryAfter: 12 });
    });

    test("an answer may have 1 MiB and no more", async (t) => {
        const { port, broker } = await startFakes(t);
        const answer = JSON.stringify({ access_token: "token-secret", expires_in: 900, generation: 7 });
        const ofLength = (length) => ((broker.raw = [200, answer.padEnd(length)]), agent({ port, token: GUARD }));
        assert.equal((await createTokenSource({ transport: ofLength(1_048_576) }).get()).generation, 7);
        await assert.rejects(createTokenSource({ transport: ofLength(1_048_577) }).get(), { code: "broker_unavailable" });
    });

    test("an answer without an end is cut off", async (t) => {
        const { port, broker } = await startFakes(t);
        broker.raw = [200, " ".repeat(2_000_000)];
        const source = createTokenSource({ transport: agent({ port, token: GUARD }) });
        await assert.rejects(source.get(), { code: "broker_unavailable" });
    });
});

describe("lambda without its package or settings", () => {
    test("needs a name", async () => {
        await assert.rejects(createTokenSource({ transport: lambda() }).get(), NotConfiguredError);
    });

    test("and httpApi name the missing package", async (t) => {
        const folder = await mkdtemp(join(tmpdir(), "token-broker-"));
        t.after(() => rm(folder, { recursive: true }));
        await cp(dirname(fileURLToPath(import.meta.resolve("token-broker"))), folder, { recursive: true });
        await writeFile(
            join(folder, "main.mjs"),
            `import { createTokenSource, httpApi, lambda } from "./index.mjs";
            for (const transport of [lambda({ functionName: "f" }), httpApi({ url: "https://a.b", region: "r" })]) {
                await createTokenSource({ transport }).get().catch((error) => console.log(error.message));
            }`,
        );
        const { stdout } = await run(process.execPath, [join(folder, "main.mjs")]);
        assert.deepEqual(stdout.trim().split("\n"), [
            "not_configured: the package @aws-sdk/client-lambda is missing; install it",
            "not_configured: the package @smithy/signature-v4 is missing; install it",
        ]);
    });
});

test("bundlers find every package that is imported on demand", async () => {
    const text = await readFile(new URL("transports.mjs", import.meta.resolve("token-broker")), "utf8");
    const imports = [...text.matchAll(/\bimport\((.*?)\)(\.\w+)?/g)].map(([, name, handler]) => [name, handler]);
    assert.deepEqual(imports, [
        ['"@aws-sdk/client-lambda"', ".catch"],
        ['"@smithy/signature-v4"', ".catch"],
        ['"@aws-sdk/credential-provider-node"', ".then"],
    ]);
});

describe("lambda", { skip: skipLambda }, () => {
    test("creates its own client", async (t) => {
        const { url } = await startFakes(t);
        setVariables(t, {
            AWS_ENDPOINT_URL_LAMBDA: url,
            AWS_REGION: AWS.region,
            AWS_ACCESS_KEY_ID: AWS.credentials.accessKeyId,
            AWS_SECRET_ACCESS_KEY: AWS.credentials.secretAccessKey,
            TOKEN_BROKER_FUNCTION: "token-broker:live",
        });
        assert.equal((await createTokenSource({ transport: lambda() }).get()).generation, 7);
    });

    test("creates its client for the Region of the ARN", async (t) => {
        const { url, brokerHeaders } = await startFakes(t);
        setVariables(t, {
            AWS_ENDPOINT_URL_LAMBDA: url,
            AWS_REGION: AWS.region,
            AWS_ACCESS_KEY_ID: AWS.credentials.accessKeyId,
            AWS_SECRET_ACCESS_KEY: AWS.credentials.secretAccessKey,
        });
        const functionName = "arn:aws:lambda:ap-south-1:123456789012:function:token-broker:live";
        await createTokenSource({ transport: lambda({ functionName }) }).get();
        delete process.env.AWS_REGION;
        await createTokenSource({ transport: lambda({ functionName }) }).get();
        assert.deepEqual(
            brokerHeaders.map(({ authorization }) => authorization.split("/")[2]),
            ["ap-south-1", "ap-south-1"],
        );
    });

    test("reports a missing permission", async (t) => {
        const fakes = await startFakes(t);
        const transport = lambda({ functionName: "forbidden", client: lambdaClient(fakes) });
        const message = "access_denied: IAM does not allow lambda:InvokeFunction on forbidden";
        await assert.rejects(createTokenSource({ transport }).get(), { name: "AccessDeniedError", message });
    });

    test("reports keys that AWS refuses", async (t) => {
        const fakes = await startFakes(t);
        const transport = lambda({ functionName: "expired", client: lambdaClient(fakes) });
        const message = "access_denied: AWS refused lambda:InvokeFunction on expired: ExpiredTokenException";
        await assert.rejects(createTokenSource({ transport }).get(), { name: "AccessDeniedError", message });
    });

    for (const payload of [
        { errorMessage: "Task timed out after 30.00 seconds" },
        { errorType: "Runtime.ExitError", errorMessage: "exit status 1" },
    ]) {
        test(`reports the platform's ${Object.values(payload)[0]}`, async (t) => {
            const fakes = await startFakes(t);
            fakes.broker.raw = [200, payload];
            const transport = lambda({ functionName: "token-broker", client: lambdaClient(fakes) });
            await assert.rejects(createTokenSource({ transport }).get(), {
                name: "UnavailableError",
                message: /timed out|Runtime\.ExitError/,
            });
        });
    }

    test("without credentials is not configured", async (t) => {
        const fakes = await startFakes(t);
        setVariables(t, { AWS_CONFIG_FILE: "/dev/null", AWS_SHARED_CREDENTIALS_FILE: "/dev/null" });
        const transport = lambda({ functionName: "f", client: lambdaClient(fakes, { credentials: undefined }) });
        await assert.rejects(createTokenSource({ transport }).get(), {
            name: "NotConfiguredError",
            message: /lambda:InvokeFunction on f: there are no AWS credentials/,
        });
    });

    test("without a Region is not configured", async (t) => {
        setVariables(t, { AWS_CONFIG_FILE: "/dev/null", AWS_SHARED_CREDENTIALS_FILE: "/dev/null" });
        await assert.rejects(createTokenSource({ transport: lambda({ functionName: "f" }) }).get(), NotConfiguredError);
    });
});

describe("httpApi", () => {
    for (const url of [undefined, "http://api.example.com", "http://127.0.0.1.example.com", "ftp://x", "x"]) {
        test(`refuses ${url}, which is not https`, async () => {
            const source = createTokenSource({ transport: httpApi({ url }) });
            await assert.rejects(source.get(), { name: "NotConfiguredError", message: /https/ });
        });
    }

    test("without a Region is not configured", async () => {
        const source = createTokenSource({ transport: httpApi({ url: "https://api.example.com" }) });
        const message = "not_configured: there is no AWS Region; set AWS_REGION";
        await assert.rejects(source.get(), { name: "NotConfiguredError", message });
    });

    for (const host of ["127.0.0.1", "localhost", "[::1]"]) {
        test(`may be called by HTTP on ${host}`, { skip: skipSigning }, async (t) => {
            const transport = httpApi({ url: `http://${host}:${await closedPort(t)}`, ...AWS });
            await assert.rejects(createTokenSource({ transport }).get(), UnavailableError); // nothing listens there
        });
    }

    test("is called by TLS if the URL is https", { skip: skipSigning }, async (t) => {
        const { port } = await startFakes(t);
        const transport = httpApi({ url: `https://127.0.0.1:${port}/prod`, ...AWS });
        await assert.rejects(createTokenSource({ transport }).get(), { message: /failed: (EPROTO|ERR_SSL_.*)$/ });
    });

    test("reports a wrong signature without the gateway's text", { skip: skipSigning }, async (t) => {
        const { url } = await startFakes(t);
        const credentials = { ...AWS.credentials, secretAccessKey: "wrong" };
        const transport = httpApi({ url: `${url}/prod`, region: AWS.region, credentials });
        await assert.rejects(createTokenSource({ transport }).get(), (error) => {
            assert.ok(error instanceof AccessDeniedError);
            assert.ok(!error.message.includes("session-secret"));
            return true;
        });
    });

    for (const [name, options, expected] of [
        ["what the URL says", {}, "eu-central-1/execute-api"],
        ["what the options say", { region: "eu-west-1", service: "lambda" }, "eu-west-1/lambda"],
    ]) {
        test(`is signed for ${name}`, { skip: skipSigning }, async (t) => {
            // The signature is made before the connection fails; the signer sees for what.
            let seen;
            t.mock.method(signing.SignatureV4.prototype, "sign", async function () {
                seen = `${await this.regionProvider()}/${this.service}`;
                throw new Error("enough");
            });
            const url = "https://abc.execute-api.eu-central-1.amazonaws.com";
            const transport = httpApi({ url, credentials: AWS.credentials, ...options });
            await assert.rejects(createTokenSource({ transport }).get(), UnavailableError);
            assert.equal(seen, expected);
        });
    }

    for (const variable of ["AWS_REGION", "AWS_DEFAULT_REGION"]) {
        test(`finds credentials as an AWS SDK does, and ${variable}`, { skip: skipSigning }, async (t) => {
            const { url } = await startFakes(t);
            setVariables(t, {
                [variable]: AWS.region,
                AWS_ACCESS_KEY_ID: AWS.credentials.accessKeyId,
                AWS_SECRET_ACCESS_KEY: AWS.credentials.secretAccessKey,
                TOKEN_BROKER_URL: `${url}/prod/`,
            });
            assert.equal((await createTokenSource({ transport: httpApi() }).get()).generation, 7);
        });
    }
});
