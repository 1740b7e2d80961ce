/** The errors of the client, and the class of each code. */

export class TokenBrokerError extends Error {
    constructor(code, description, { retryAfter, requestId } = {}) {
        super(`${code}: ${description}${retryAfter === undefined ? "" : ` (retry_after=${retryAfter})`}`);
        this.name = new.target.name;
        this.code = code;
        this.description = description;
        this.retryAfter = retryAfter;
        this.requestId = requestId;
    }
}
export class InvalidRequestError extends TokenBrokerError {}
export class AccessDeniedError extends TokenBrokerError {}
export class UnknownAccountError extends TokenBrokerError {}
export class CredentialsRejectedError extends TokenBrokerError {}
export class UnavailableError extends TokenBrokerError {}
export class NotConfiguredError extends TokenBrokerError {}

// `internal`, `misconfigured` and `token_expires_too_soon`, a code of this client, have no class.
const CLASSES = new Map([
    ["invalid_request", InvalidRequestError],
    ["unsupported_grant_type", InvalidRequestError],
    ["access_denied", AccessDeniedError],
    ["unknown_account", UnknownAccountError],
    ["credentials_rejected", CredentialsRejectedError],
    ["bad_secret", CredentialsRejectedError],
    ["grant_lost", CredentialsRejectedError],
    ["login_budget_exhausted", UnavailableError],
    ["upstream_rate_limited", UnavailableError],
    ["upstream_unavailable", UnavailableError],
    ["refresh_in_progress", UnavailableError],
    ["store_unavailable", UnavailableError],
    ["secret_unavailable", UnavailableError],
    ["broker_unavailable", UnavailableError],
    ["not_configured", NotConfiguredError],
]);

// No error has a `cause`: the errors of decoders and HTTP libraries may quote a response or a header.
export function brokerError(code, description, details) {
    return new (CLASSES.get(code) ?? TokenBrokerError)(code, description, details);
}
