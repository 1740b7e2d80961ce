/** Bearer tokens for the Convirza API, cached by account and renewed before they expire. */

/** A bearer token. Only `accessToken` and `authorization` show it: `console.log`, `String` and `JSON.stringify` do not. */
export interface Token {
    readonly accessToken: string;
    /** The value of the `Authorization` header. */
    readonly authorization: string;
    readonly generation: number;
    readonly account: string;
    /** When the request for it was sent, in milliseconds by the wall clock. */
    readonly requestedAt: number;
    /** When the caller must stop using it, in milliseconds by the wall clock. */
    readonly expiresAt: number;
    /** Fields of the upstream's answer that the broker passes on, such as the host of the account's API. */
    readonly extra: Readonly<Record<string, unknown>>;
}

export interface TokenOptions {
    /** The account; `default` by default. */
    account?: string | undefined;
    /** The token must be valid for at least this long. By default 60, or half of the token's lifetime if that is less. */
    minTtlSeconds?: number | undefined;
}

/** Tokens from the broker. Create one for the whole process. */
export interface TokenSource {
    /**
     * Resolves to a token that is valid for at least `minTtlSeconds`, from the cache if possible. From two thirds of the
     * lifetime on, the token is renewed in the background. Concurrent callers share one call to the broker, and wait 5 s
     * in all, or 20 s if there is no valid token.
     */
    get(options?: TokenOptions): Promise<Token>;
    /**
     * Reports that the API refused the token of this generation with 401, and resolves to the token to use now. It has
     * a newer generation if the broker replaced the refused one. It has the same generation if the broker found that
     * token alive: the API refused the request for another reason, so do not retry it.
     */
    report(generation: number, options?: TokenOptions): Promise<Token>;
}

export interface TokenRequest {
    account: string;
    minTtlSeconds?: number | undefined;
    rejectedGeneration?: number | undefined;
}

/** One way to reach the broker. */
export interface Transport {
    /** Resolves to the broker's token answer. Rejects with a `TokenBrokerError`. */
    fetch(request: TokenRequest): Promise<object>;
}

export interface TokenSourceOptions {
    /** `agent()` by default. */
    transport?: Transport;
    /** The wall clock, in milliseconds; `Date.now` by default. */
    now?: () => number;
    /** A random number from 0 to 1, for jitter; `Math.random` by default. */
    random?: () => number;
    /** Gets a line for each failed renewal in the background; `console.warn` by default. */
    warn?: (message: string) => void;
}

export function createTokenSource(options?: TokenSourceOptions): TokenSource;

export interface BrokerFetchOptions extends TokenOptions {
    /** `createTokenSource()` by default. */
    source?: TokenSource;
    /** Only requests to its scheme, host and port get the token; others are sent unchanged. By default all get it. */
    apiUrl?: string | URL;
    /** The global `fetch` by default. */
    fetch?: typeof globalThis.fetch;
    /** Gets a line for each failed report; `console.warn` by default. */
    warn?: (message: string) => void;
}

/**
 * Returns a `fetch` that adds the account's bearer token to each request. After a 401 it reports the token's
 * generation, and repeats the request once if the broker has a newer generation and the body is not a stream. A
 * `Request` is cloned for that, which keeps its body in memory until the API has answered. After a redirect it repeats
 * only GET, HEAD and OPTIONS, because another method may already have taken effect.
 */
export function brokerFetch(options?: BrokerFetchOptions): typeof globalThis.fetch;

export interface AgentOptions {
    /** `TOKEN_BROKER_PORT` by default, or 2774. */
    port?: number;
    /**
     * The guard token, or `file://PATH`. By default the first of `TOKEN_BROKER_TOKEN`, `AWS_SESSION_TOKEN` and
     * `AWS_CONTAINER_AUTHORIZATION_TOKEN` that is set. It is read for each request.
     */
    token?: string;
    /** 25,000 by default. */
    timeoutMs?: number;
}

/** The agent, on 127.0.0.1. */
export function agent(options?: AgentOptions): Transport;

export interface LambdaOptions {
    /** The name or the ARN of the broker's function, alias included; `TOKEN_BROKER_FUNCTION` by default. */
    functionName?: string;
    /** A `LambdaClient` of `@aws-sdk/client-lambda`; by default, the first request creates one. */
    client?: { send(command: any, options?: any): Promise<any> };
    /** 30,000 by default. */
    timeoutMs?: number;
}

/** Direct invocation of the broker's function. Needs the package `@aws-sdk/client-lambda`. */
export function lambda(options?: LambdaOptions): Transport;

export interface AwsCredentials {
    accessKeyId: string;
    secretAccessKey: string;
    sessionToken?: string;
}

export interface HttpApiOptions {
    /** The base URL; `TOKEN_BROKER_URL` by default. */
    url?: string;
    /** By default the one in the URL, else `AWS_REGION`. */
    region?: string;
    /** The name of the service in the signature; by default `lambda` for a Function URL, else `execute-api`. */
    service?: string;
    /** By default those that an AWS SDK finds, through the package `@aws-sdk/credential-provider-node`. */
    credentials?: AwsCredentials | (() => Promise<AwsCredentials>);
    /** 30,000 by default. */
    timeoutMs?: number;
}

/** The broker's HTTP API, a Function URL or a local stack, with SigV4. Needs the package `@smithy/signature-v4`. */
export function httpApi(options?: HttpApiOptions): Transport;

/** The broker gave no token. */
export class TokenBrokerError extends Error {
    constructor(code: string, description: string, details?: { retryAfter?: number; requestId?: string });
    /** One of the broker's codes, or `broker_unavailable`, `token_expires_too_soon` or `not_configured`. */
    readonly code: string;
    /** What happened, and what to do. */
    readonly description: string;
    /** The number of seconds to wait before the next try, if the broker knows it. */
    readonly retryAfter: number | undefined;
    readonly requestId: string | undefined;
}

/** `invalid_request`: the request is malformed, for example a `minTtlSeconds` above the broker's limit. */
export class InvalidRequestError extends TokenBrokerError {}
/** `access_denied`: this caller may not use this account. */
export class AccessDeniedError extends TokenBrokerError {}
/** `unknown_account`: the broker has no secret for this account. */
export class UnknownAccountError extends TokenBrokerError {}
/** `credentials_rejected`, `bad_secret`, `grant_lost`: an operator has to correct the account's secret before a retry. */
export class CredentialsRejectedError extends TokenBrokerError {}
/**
 * No token at the moment: every code that the broker answers with 503, and `broker_unavailable`: the broker or the
 * agent cannot be reached, timed out, or returned an unexpected response. Retry after `retryAfter` seconds.
 */
export class UnavailableError extends TokenBrokerError {}
/** `not_configured`: a setting, a credential or an optional package is missing on the caller's side. */
export class NotConfiguredError extends TokenBrokerError {}
