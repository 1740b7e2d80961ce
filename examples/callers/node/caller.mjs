// A Lambda that calls the Convirza API with a token from the broker, which it invokes directly.
//
// It needs `lambda:InvokeFunction` on the broker's alias, and nothing that Lambda's Node.js does not bring along.

import { InvokeCommand, LambdaClient } from "@aws-sdk/client-lambda";

const BROKER = process.env.BROKER_FUNCTION ?? "token-broker:live";
const API_URL = process.env.CONVIRZA_API_URL ?? "https://platform-api.convirza.com/v3";

/** The broker has no token: `code` says why, and `retryAfter`, where it is known, after how many seconds to ask again. */
export class BrokerError extends Error {
    constructor(code, message) {
        super(`${code}: ${message}`);
        this.name = "BrokerError";
        this.code = code;
        const retryAfter = /\(retry_after=(\d+)\)$/.exec(message);
        this.retryAfter = retryAfter ? Number(retryAfter[1]) : undefined;
    }
}

/** The token of one account, kept for as long as it is good. Whoever wants it while it is asked for shares the answer. */
export class Tokens {
    #client;
    #account;
    #token;
    #goodUntil = 0;
    #asking;

    constructor(client, account = "default") {
        this.#client = client;
        this.#account = account;
    }

    /** A token that is good for now. */
    async get() {
        return this.#asking ?? (Date.now() < this.#goodUntil ? this.#token : this.#ask());
    }

    /** The token to try after the API has answered 401 to this one. */
    async insteadOf(refused) {
        // Another request may have reported it in the meantime, or be about to.
        const token = await this.get();
        return token.generation === refused.generation
            ? this.#ask({ rejected_generation: refused.generation })
            : token;
    }

    #ask(fields) {
        this.#asking ??= this.#invoke(fields).finally(() => (this.#asking = undefined));
        return this.#asking;
    }

    async #invoke(fields) {
        const askedAt = Date.now();
        const Payload = JSON.stringify({ account: this.#account, ...fields });
        const response = await this.#client.send(new InvokeCommand({ FunctionName: BROKER, Payload }));
        const answer = JSON.parse(response.Payload.transformToString());
        if (response.FunctionError) {
            throw new BrokerError(answer.errorType ?? "unknown", answer.errorMessage ?? "");
        }
        this.#token = answer;
        this.#goodUntil = askedAt + answer.expires_in * 1000;
        return answer;
    }
}

// Once per instance, not once per invocation.
const tokens = new Tokens(new LambdaClient());

/** GET with a token. A 401 is reported once and the request tried once more; another 401 is the API's last word. */
export async function callApi(path) {
    const token = await tokens.get();
    let response = await get(path, token);
    if (response.status === 401) {
        response = await get(path, await tokens.insteadOf(token));
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
