// A Lambda that calls the Convirza API with a token from the broker. It invokes the broker directly.
//
// It needs `lambda:InvokeFunction` on the broker's alias. Lambda's Node.js runtime has every package that it uses.

import { InvokeCommand, LambdaClient } from "@aws-sdk/client-lambda";

// The stack's output LiveAliasArn.
const BROKER = process.env.TOKEN_BROKER_FUNCTION;
const API_URL = process.env.CONVIRZA_API_URL ?? "https://platform-api.convirza.com/v3";

/** The broker has no token: `code` says why; `retryAfter`, if known, is the number of seconds to wait before a retry. */
export class BrokerError extends Error {
    constructor(code, message) {
        super(`${code}: ${message}`);
        this.name = "BrokerError";
        this.code = code;
        const retryAfter = /\(retry_after=(\d+)\)$/.exec(message);
        this.retryAfter = retryAfter ? Number(retryAfter[1]) : undefined;
    }
}

/** The token of one account, cached until it expires. Concurrent requests share one invocation of the broker. */
export class Tokens {
    #client;
    #account;
    #token;
    #expiresAt = 0;
    #pending;

    constructor(client, account = "default") {
        this.#client = client;
        this.#account = account;
    }

    /** A valid token. */
    async get() {
        return this.#pending ?? (Date.now() < this.#expiresAt ? this.#token : this.#request());
    }

    /** Reports that the API answered 401 to this token, and returns the token for the next try. */
    async report(rejected) {
        // Another request may already have replaced it.
        const token = await this.get();
        return token.generation === rejected.generation
            ? this.#request({ rejected_generation: rejected.generation })
            : token;
    }

    #request(fields) {
        this.#pending ??= this.#invoke(fields).finally(() => (this.#pending = undefined));
        return this.#pending;
    }

    async #invoke(fields) {
        const sentAt = Date.now();
        const Payload = JSON.stringify({ account: this.#account, ...fields });
        const response = await this.#client.send(new InvokeCommand({ FunctionName: BROKER, Payload }));
        const answer = JSON.parse(response.Payload.transformToString());
        if (response.FunctionError) {
            throw new BrokerError(answer.errorType ?? "unknown", answer.errorMessage ?? "");
        }
        this.#token = answer;
        this.#expiresAt = sentAt + answer.expires_in * 1000;
        return answer;
    }
}

// Created once per instance, not once per invocation.
const tokens = new Tokens(new LambdaClient());

/** GET with a token. After a 401 the token is reported and the request retried once; a second 401 is an error. */
export async function callApi(path) {
    const token = await tokens.get();
    let response = await get(path, token);
    if (response.status === 401) {
        response = await get(path, await tokens.report(token));
    }
    if (!response.ok) {
        throw new Error(`Convirza answered ${response.status} to ${path}`);
    }
    return response.json();
}

function get(path, token) {
    const headers = { authorization: `Bearer ${token.access_token}` };
    return fetch(API_URL + path, { headers, signal: AbortSignal.timeout(10_000) });
}

export const handler = () => callApi("/users/list");
