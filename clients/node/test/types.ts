// Compiled, not run: the types fit the use of the package.

import { LambdaClient } from "@aws-sdk/client-lambda";
import { defaultProvider } from "@aws-sdk/credential-provider-node";
import {
    agent,
    brokerFetch,
    createTokenSource,
    httpApi,
    lambda,
    TokenBrokerError,
    UnavailableError,
    type Token,
    type TokenSource,
    type Transport,
} from "token-broker";
import { FakeBroker } from "token-broker/testing";

const sources: TokenSource[] = [
    createTokenSource(),
    createTokenSource({ transport: agent({ port: 2774, token: "file:///run/guard" }), now: () => Date.now() }),
    createTokenSource({ transport: lambda({ functionName: "token-broker:live", client: new LambdaClient({}) }) }),
    createTokenSource({ transport: new FakeBroker({ expiresIn: 60 }), random: Math.random }),
    createTokenSource({ transport: httpApi({ url: "https://api.example.com", credentials: defaultProvider() }) }),
];

const own: Transport = { fetch: async ({ account }) => ({ account }) };

export async function use(source: TokenSource = sources[0] ?? createTokenSource({ transport: own })): Promise<number> {
    const token: Token = await source.get({ account: "emea", minTtlSeconds: 60 });
    const newer = await source.report(token.generation, { account: token.account });
    const fetch: typeof globalThis.fetch = brokerFetch({ source, account: "emea" });
    try {
        const response = await fetch("https://api.example.com", { headers: { accept: "*/*" } });
        return response.status + newer.expiresAt;
    } catch (error) {
        if (error instanceof UnavailableError) return error.retryAfter ?? 1;
        if (error instanceof TokenBrokerError) throw new Error(error.code + error.description);
        throw error;
    }
}

export async function misuse(source: TokenSource): Promise<void> {
    const token = await source.get();
    // @ts-expect-error: read-only
    token.generation = 8;
    // @ts-expect-error: the account is a name
    await source.get({ account: 7 });
    // @ts-expect-error: a report names a generation
    await source.report();
    // @ts-expect-error: a transport has to fetch
    createTokenSource({ transport: {} });
}
