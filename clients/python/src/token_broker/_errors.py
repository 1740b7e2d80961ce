"""The errors. ``code`` is one of the broker's codes, or one of the three that this client adds."""

from __future__ import annotations


class TokenBrokerError(Exception):
    """The broker gave no token.

    ``code`` is stable. ``description`` says what happened and what to do. ``retry_after`` is the number of seconds
    to wait before the next try, if the broker knows it.
    """

    def __init__(
        self,
        code: str,
        description: str,
        retry_after: int | None = None,
        request_id: str | None = None,
    ) -> None:
        # `args` equals the parameters, so that `copy` and `pickle` can rebuild the exception.
        super().__init__(code, description, retry_after, request_id)
        self.code = code
        self.description = description
        self.retry_after = retry_after
        self.request_id = request_id

    def __str__(self) -> str:
        retry = "" if self.retry_after is None else f" (retry_after={self.retry_after})"
        return f"{self.code}: {self.description}{retry}"

    @staticmethod
    def of(
        code: str, description: str, retry_after: int | None = None, request_id: str | None = None
    ) -> TokenBrokerError:
        """The error of a code, as an instance of the class for that code."""
        return _CLASSES.get(code, TokenBrokerError)(code, description, retry_after, request_id)


class InvalidRequest(TokenBrokerError):
    """``invalid_request``: the request is malformed, for example a ``min_ttl_seconds`` above the broker's limit."""


class AccessDenied(TokenBrokerError):
    """``access_denied``: this caller may not use this account."""


class UnknownAccount(TokenBrokerError):
    """``unknown_account``: the broker has no secret for this account."""


class CredentialsRejected(TokenBrokerError):
    """``credentials_rejected``, ``bad_secret``, ``grant_lost``: an operator has to correct the account's secret."""


class Unavailable(TokenBrokerError):
    """No token at the moment: every code that the broker answers with 503, and ``broker_unavailable``.

    ``broker_unavailable`` is this client's code: the broker or the agent cannot be reached, timed out, or returned an
    unexpected response. Retry after ``retry_after`` seconds.
    """


class NotConfigured(TokenBrokerError):
    """``not_configured``: a setting, a credential or an optional package is missing on the caller's side."""


# `internal`, `misconfigured` and `token_expires_too_soon`, a code of this client, have no class.
_CLASSES: dict[str, type[TokenBrokerError]] = {
    "invalid_request": InvalidRequest,
    "unsupported_grant_type": InvalidRequest,
    "access_denied": AccessDenied,
    "unknown_account": UnknownAccount,
    "credentials_rejected": CredentialsRejected,
    "bad_secret": CredentialsRejected,
    "grant_lost": CredentialsRejected,
    "login_budget_exhausted": Unavailable,
    "upstream_rate_limited": Unavailable,
    "upstream_unavailable": Unavailable,
    "refresh_in_progress": Unavailable,
    "store_unavailable": Unavailable,
    "secret_unavailable": Unavailable,
    "broker_unavailable": Unavailable,
    "not_configured": NotConfigured,
}
