/**
 * Client of token-broker: bearer tokens for the Convirza API, cached by account and renewed before they expire.
 * The types and their documentation are in `index.d.ts`.
 */

export {
    AccessDeniedError,
    CredentialsRejectedError,
    InvalidRequestError,
    NotConfiguredError,
    TokenBrokerError,
    UnavailableError,
    UnknownAccountError,
} from "./errors.mjs";
export { brokerFetch } from "./fetch.mjs";
export { createTokenSource } from "./source.mjs";
export { agent, httpApi, lambda } from "./transports.mjs";
