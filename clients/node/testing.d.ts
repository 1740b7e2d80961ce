/** A broker in memory, for tests without a network. README.md shows its use. */

import type { TokenRequest, TokenSource, Transport } from "token-broker";

/** A transport that answers like the broker. Its time moves only when a test says so. */
export class FakeBroker implements Transport {
    constructor(options?: { expiresIn?: number });
    /** How many seconds each answer lets a caller keep its token; 900 by default. */
    expiresIn: number;
    /** The fields of the upstream's answer that each answer includes as `extra`. */
    extra: Record<string, unknown>;
    /** The requests received, with the broker's field names. */
    readonly requests: Record<string, string | number>[];
    /** The time of `source`, in milliseconds. */
    now: number;
    /** A token source of this broker and its time, with an empty cache. */
    source(): TokenSource;
    /** Lets time pass. Tokens expire after `expiresIn`, and are renewed from two thirds of that on. */
    advance(seconds: number): void;
    /** From now on the API refuses the account's token. The broker replaces it once a caller reports it. */
    revoke(account?: string): void;
    /** Whether the API accepts this `Authorization` header. If not, let your fake API answer 401. */
    accepts(authorization: string | null | undefined): boolean;
    /** Lets all requests fail. `upstream_unavailable` by default; `broker_unavailable` means no network. */
    fail(code?: string, details?: { retryAfter?: number }): void;
    /** Ends `fail`. */
    recover(): void;
    fetch(request: TokenRequest): Promise<object>;
}
