/** A `fetch` with the account's token. */

import { brokerError, TokenBrokerError } from "./errors.mjs";
import { createTokenSource, printWarning } from "./source.mjs";

export function brokerFetch({
    source = createTokenSource(),
    account,
    minTtlSeconds,
    apiUrl,
    fetch = globalThis.fetch,
    warn = printWarning,
} = {}) {
    const isApi = apiUrl === undefined ? () => true : sameOriginAs(apiUrl);

    // Reports the refused token. Resolves to a token only if it has a newer generation.
    async function newerThan(refused) {
        try {
            const token = await source.report(refused.generation, { account, minTtlSeconds });
            return token.generation > refused.generation ? token : undefined;
        } catch (error) {
            if (!(error instanceof TokenBrokerError)) throw error;
            // The caller gets the API's own 401, which is the more useful of the two answers.
            const subject = `token-broker: the API refused the token of account ${refused.account}`;
            warn(`${subject}, but the report failed: ${error.message}`);
        }
    }

    return async function fetchWithToken(input, init) {
        // Read as `fetch` reads them: the options may be a Request.
        if (isRequest(init)) [input, init] = [new init.constructor(input, init), undefined];
        const request = isRequest(input) ? input : undefined;
        const url = request?.url ?? input;
        if (!isApi(url)) return fetch(input, init);
        const signal = init?.signal ?? request?.signal;
        const send = (target, token) => {
            const headers = new Headers(init?.headers ?? request?.headers);
            headers.set("authorization", token.authorization);
            return fetch(target, { ...init, headers });
        };
        const token = await unlessAborted(signal, source.get({ account, minTtlSeconds }));
        // A request can be sent once, and so can its body. A clone keeps the body in memory until the API has answered.
        const spare = request && !init?.body ? request.clone() : input;
        const response = await send(input, token);
        if (response.status === 401 && !hasLeftTheHost(url, response)) {
            const newer = await unlessAborted(signal, newerThan(token));
            const hasTakenEffect = response.redirected && !SAFE_METHODS.test(init?.method ?? request?.method ?? "GET");
            if (newer && !hasTakenEffect && canBeSentAgain(init?.body)) {
                await response.body?.cancel();
                return send(spare, newer);
            }
        }
        if (spare !== input) spare.body?.cancel().catch(() => {});
        return response;
    };
}

// After a redirect, a request with another method may have taken effect already.
const SAFE_METHODS = /^(GET|HEAD|OPTIONS)$/i;

// By its shape, because a request of another implementation of fetch is not an instance of the global class.
function isRequest(input) {
    return typeof input === "object" && input !== null && "headers" in input && "url" in input;
}

function canBeSentAgain(body) {
    return (
        body === undefined ||
        body === null ||
        typeof body === "string" ||
        body instanceof URLSearchParams ||
        body instanceof FormData ||
        body instanceof Blob ||
        body instanceof ArrayBuffer ||
        ArrayBuffer.isView(body)
    );
}

// A URL without a scheme has no origin, so every request would be sent without a token.
function sameOriginAs(apiUrl) {
    const url = URL.canParse(apiUrl) ? new URL(apiUrl) : undefined;
    if (!["http:", "https:"].includes(url?.protocol)) {
        throw brokerError("not_configured", "`apiUrl` must be a URL such as https://platform-api.convirza.com");
    }
    return (other) => isSameOrigin(url, other);
}

function isSameOrigin(one, other) {
    return new URL(one).origin === new URL(other).origin;
}

// After a redirect to another host, fetch sends no token. A 401 from that host says nothing about the token.
function hasLeftTheHost(input, response) {
    return response.redirected && !isSameOrigin(response.url, input);
}

// The request for a token continues after an abort, because others may wait for it too.
async function unlessAborted(signal, promise) {
    if (!signal) return promise;
    let abort;
    const aborted = new Promise((_, reject) => {
        abort = () => reject(signal.reason);
        if (signal.aborted) abort();
        else signal.addEventListener("abort", abort);
    });
    try {
        return await Promise.race([aborted, promise]);
    } finally {
        signal.removeEventListener("abort", abort);
    }
}
