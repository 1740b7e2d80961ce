/** Three ways to reach the broker: the agent on this host, direct invocation, and the HTTP API. */

import { createHash, createHmac } from "node:crypto";
import { readFile } from "node:fs/promises";
import http from "node:http";
import https from "node:https";
import { brokerError, InvalidRequestError } from "./errors.mjs";

// Only these characters can be sent in a header.
export const SENDABLE = /^[!-~]+$/;
const MAX_RESPONSE_BYTES = 1_048_576;
const GUARD_VARIABLES = ["TOKEN_BROKER_TOKEN", "AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN"];
const CODE = /^[a-z]+(_[a-z]+)*$/;
const RETRY_AFTER = / \(retry_after=(\d+)\)$/;

export function agent({ port, token, timeoutMs = 25_000 } = {}) {
    return {
        async fetch(wanted) {
            const number = port ?? portOfEnvironment();
            if (!/^\d+$/.test(number) || number < 1 || number > 65_535) {
                throw brokerError("not_configured", "TOKEN_BROKER_PORT must be a port number");
            }
            const url = new URL(`http://127.0.0.1:${number}/v1/token`);
            url.search = new URLSearchParams(fields(wanted));
            const headers = { "x-token-broker-token": await guardToken(token) };
            const response = await exchange(
                url,
                { headers, timeoutMs },
                (reason) => `the agent on 127.0.0.1:${number} does not answer: ${reason}`,
            );
            return read(response);
        },
    };
}

export function lambda({ functionName, client, timeoutMs = 30_000 } = {}) {
    return named(async (body) => {
        const name = functionName ?? process.env.TOKEN_BROKER_FUNCTION;
        if (!name) throw brokerError("not_configured", "name the broker's function, or set TOKEN_BROKER_FUNCTION");
        const { InvokeCommand, LambdaClient } = await import("@aws-sdk/client-lambda").catch(
            explainMissing("@aws-sdk/client-lambda"),
        );
        const command = new InvokeCommand({ FunctionName: name, Payload: body });
        const response = await awsCall(`lambda:InvokeFunction on ${name}`, () => {
            client ??= new LambdaClient({ maxAttempts: 2, region: regionOfArn(name) });
            return client.send(command, { abortSignal: AbortSignal.timeout(timeoutMs) });
        });
        return readInvocation(response);
    });
}

export function httpApi({ url, region, service, credentials, timeoutMs = 30_000 } = {}) {
    return named(async (body) => {
        const target = apiUrl(url ?? process.env.TOKEN_BROKER_URL);
        const found = serviceAndRegion(target.hostname);
        const signingRegion = region ?? found.region ?? (process.env.AWS_REGION || process.env.AWS_DEFAULT_REGION);
        if (!signingRegion) throw brokerError("not_configured", "there is no AWS Region; set AWS_REGION");
        const { SignatureV4 } = await import("@smithy/signature-v4").catch(explainMissing("@smithy/signature-v4"));
        credentials ??= await import("@aws-sdk/credential-provider-node").then(
            ({ defaultProvider }) => defaultProvider(),
            explainMissing("@aws-sdk/credential-provider-node"),
        );
        const signer = new SignatureV4({
            service: service ?? found.service,
            region: signingRegion,
            credentials,
            sha256: Sha256,
        });
        const signed = await awsCall(`signing for ${target.hostname}`, () =>
            signer.sign({
                method: "POST",
                protocol: target.protocol,
                hostname: target.hostname,
                path: target.pathname,
                headers: { host: target.host, "content-type": "application/json" },
                body,
            }),
        );
        const options = { method: "POST", headers: signed.headers, body, timeoutMs };
        return read(await exchange(target, options, (reason) => `POST ${target.hostname} failed: ${reason}`));
    });
}

// A transport that sends `client`, the caller's own name, until a broker of version 0.1.0 refuses the field.
function named(send) {
    let isRefused = false;
    return {
        async fetch(wanted) {
            const client = process.env.TOKEN_BROKER_CLIENT || process.env.AWS_LAMBDA_FUNCTION_NAME;
            if (client && !isRefused) {
                try {
                    return await send(JSON.stringify({ ...fields(wanted), client }));
                } catch (error) {
                    if (!(error instanceof InvalidRequestError && error.description.includes("`client`"))) throw error;
                    isRefused = true;
                }
            }
            return send(JSON.stringify(fields(wanted)));
        },
    };
}

// The Region that an ARN names, which the SDK ignores. Undefined for a name: then the SDK finds the Region itself.
function regionOfArn(functionName) {
    return /^arn:[^:]+:lambda:([^:]+):/.exec(functionName)?.[1];
}

class Sha256 {
    #hash;

    constructor(secret) {
        this.#hash = secret ? createHmac("sha256", secret) : createHash("sha256");
    }

    update(data) {
        this.#hash.update(data);
    }

    async digest() {
        return this.#hash.digest();
    }
}

function portOfEnvironment() {
    const port = process.env.TOKEN_BROKER_PORT;
    // Kubernetes sets it to a URL, for a Service with the name token-broker.
    return port && !port.includes("://") ? port : 2774;
}

async function guardToken(given) {
    const variable = GUARD_VARIABLES.find((name) => process.env[name]);
    let value = given || (variable && process.env[variable]) || "";
    if (value.startsWith("file://")) {
        const path = value.slice("file://".length);
        value = await readFile(path, "utf8").catch(() => undefined);
        if (value === undefined) {
            throw brokerError("not_configured", `the guard token's file ${path} cannot be read`);
        }
    }
    value = value.trim(); // secret stores add line ends
    if (!value) throw brokerError("not_configured", `there is no guard token; set ${GUARD_VARIABLES[0]}`);
    if (!SENDABLE.test(value)) {
        throw brokerError("not_configured", "the guard token has characters that cannot be sent in a header");
    }
    return value;
}

export function fields({ account, minTtlSeconds, rejectedGeneration }) {
    const all = { account, min_ttl_seconds: minTtlSeconds, rejected_generation: rejectedGeneration };
    return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
}

function apiUrl(text) {
    const url = URL.canParse(text ?? "") ? new URL(text) : undefined;
    const isLoopback = ["127.0.0.1", "localhost", "[::1]"].includes(url?.hostname);
    if (url?.protocol !== "https:" && !(url?.protocol === "http:" && isLoopback)) {
        throw brokerError("not_configured", "give the API's https URL, or set TOKEN_BROKER_URL");
    }
    url.search = "";
    url.pathname = `${url.pathname.replace(/\/+$/, "")}/token`;
    return url;
}

const API_OF_AWS = /^[^.]+\.execute-api\.([^.]+)\.(?:(?:vpce\.)?amazonaws\.com|amazonaws\.com\.cn|amazonaws\.eu)$/i;
const FUNCTION_URL = /^[^.]+\.lambda-url\.([^.]+)\.on\.aws$/i;

export function serviceAndRegion(hostname) {
    const region = FUNCTION_URL.exec(hostname)?.[1];
    return region ? { service: "lambda", region } : { service: "execute-api", region: API_OF_AWS.exec(hostname)?.[1] };
}

// A bundler includes a package only if `import` has its name as a literal, and builds without a missing one only if the
// import has a `catch`.
function explainMissing(name) {
    return (error) => {
        if (!["ERR_MODULE_NOT_FOUND", "MODULE_NOT_FOUND"].includes(error?.code)) throw error;
        throw brokerError("not_configured", `the package ${name} is missing; install it`);
    };
}

async function awsCall(action, call) {
    try {
        return await call();
    } catch (error) {
        const name = error?.name ?? "Error";
        if (name === "AccessDeniedException") throw brokerError("access_denied", `IAM does not allow ${action}`);
        if ([401, 403].includes(error?.$metadata?.httpStatusCode)) {
            throw brokerError("access_denied", `AWS refused ${action}: ${name}`);
        }
        if (name === "CredentialsProviderError" || error?.message === "Region is missing") {
            throw brokerError("not_configured", `${action}: there are no AWS credentials, or there is no AWS Region`);
        }
        throw brokerError("broker_unavailable", `${action} failed: ${name}`);
    }
}

// One HTTP exchange. Not `fetch`, which an application may have replaced with `brokerFetch`; it uses no proxy and
// follows no redirect.
function exchange(url, { method, headers, body, timeoutMs }, describe) {
    return new Promise((resolve, reject) => {
        const signal = AbortSignal.timeout(timeoutMs);
        const fail = (error) => {
            const reason = signal.aborted ? `no answer within ${timeoutMs / 1000} s` : (error.code ?? error.name);
            reject(brokerError("broker_unavailable", describe(reason)));
        };
        const { request: start } = url.protocol === "https:" ? https : http;
        const request = start(url, { method, headers, agent: false, signal }, (response) => {
            const chunks = [];
            let length = 0;
            response.on("data", (chunk) => {
                chunks.push(chunk);
                length += chunk.length;
                if (length > MAX_RESPONSE_BYTES) request.destroy(new RangeError("the response is too long"));
            });
            response.on("error", fail);
            response.on("end", () => {
                const text = Buffer.concat(chunks).toString("utf8");
                resolve({ status: response.statusCode, retryAfter: response.headers["retry-after"], text });
            });
        });
        request.on("error", fail);
        request.end(body);
    });
}

function read({ status, retryAfter: header, text }) {
    const object = decode(text);
    if (status === 200 && object) return object;
    if (status === 200) throw brokerError("broker_unavailable", "the response is not a token answer");
    const retryAfter = wholeSeconds(object?.retry_after) ?? wholeSeconds(header);
    const code = object?.error;
    if (typeof code === "string" && CODE.test(code)) {
        const requestId = typeof object.request_id === "string" ? object.request_id : undefined;
        throw brokerError(code, String(object.error_description ?? ""), { retryAfter, requestId });
    }
    // A gateway's own message is not shown, because it may quote the signed request with its session token.
    if (status === 401 || status === 403) {
        throw brokerError("access_denied", `the request was refused with ${status} before the broker saw it`);
    }
    throw brokerError("broker_unavailable", `status ${status} without the broker's error body`, { retryAfter });
}

function readInvocation({ FunctionError: isError, Payload: payload }) {
    const object = decode(new TextDecoder().decode(payload ?? undefined)); // the SDK makes null of an empty payload
    if (!isError && object) return object;
    if (!isError) throw brokerError("broker_unavailable", "the response is not a token answer");
    const code = String(object?.errorType ?? "");
    const message = String(object?.errorMessage ?? "");
    // Lambda's own errors are Runtime.ExitError and the like, or a timeout, which has no type.
    if (!CODE.test(code)) throw brokerError("broker_unavailable", `the function failed: ${code || message}`);
    const retryAfter = wholeSeconds(RETRY_AFTER.exec(message)?.[1]);
    throw brokerError(code, message.replace(RETRY_AFTER, ""), { retryAfter });
}

function decode(text) {
    try {
        const value = JSON.parse(text);
        return typeof value === "object" && value !== null && !Array.isArray(value) ? value : undefined;
    } catch {
        return undefined;
    }
}

// More than a billion seconds must be a mistake.
function wholeSeconds(value) {
    if (typeof value === "string" && /^\d{1,9}$/.test(value)) return Number(value);
    return Number.isInteger(value) && value >= 0 && value < 1e9 ? value : undefined;
}
