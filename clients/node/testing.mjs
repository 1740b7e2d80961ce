/** A broker in memory, for tests without a network. The types and their documentation are in `testing.d.ts`. */

import { brokerError } from "./errors.mjs";
import { createTokenSource } from "./source.mjs";
import { fields } from "./transports.mjs";

export class FakeBroker {
    extra = {};
    requests = [];
    now = 1_800_000_000_000;
    #generations = new Map();
    #refused = new Set();
    #error;

    constructor({ expiresIn = 900 } = {}) {
        this.expiresIn = expiresIn;
    }

    source() {
        return createTokenSource({ transport: this, now: () => this.now, random: () => 0, warn: () => {} });
    }

    advance(seconds) {
        this.now += seconds * 1000;
    }

    revoke(account = "default") {
        this.#refused.add(this.#token(account));
    }

    accepts(authorization) {
        const tokens = [...this.#generations.keys()].map((account) => this.#token(account));
        return tokens.some((token) => authorization === `Bearer ${token}` && !this.#refused.has(token));
    }

    fail(code = "upstream_unavailable", { retryAfter } = {}) {
        this.#error = brokerError(code, "as the test says", { retryAfter });
    }

    recover() {
        this.#error = undefined;
    }

    async fetch(request) {
        this.requests.push(fields(request));
        if (this.#error) throw this.#error;
        const { account, rejectedGeneration } = request;
        let generation = this.#generations.get(account) ?? 1;
        if (rejectedGeneration === generation && this.#refused.has(this.#token(account))) generation += 1;
        this.#generations.set(account, generation);
        return {
            access_token: this.#token(account),
            token_type: "Bearer",
            expires_in: this.expiresIn,
            account,
            generation,
            served_from: "memory",
            ...(Object.keys(this.extra).length > 0 && { extra: this.extra }),
        };
    }

    #token(account) {
        return `fake-token-${account}-${this.#generations.get(account) ?? 1}`;
    }
}
