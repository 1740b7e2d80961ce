"""What the adapters for httpx and requests share: the rule for a 401."""

from __future__ import annotations

import logging
from urllib.parse import urlsplit

from ._cache import Token
from ._errors import TokenBrokerError
from ._source import TokenSource

_log = logging.getLogger("token_broker")


class AccountAuth:
    """One account of a source. Without a source, it creates one that asks the agent on 127.0.0.1.

    With `api_url`, only requests to its scheme, host and port get the token. Others are sent unchanged.
    """

    def __init__(
        self,
        source: TokenSource | None = None,
        *,
        account: str = "default",
        min_ttl_seconds: int | None = None,
        api_url: str | None = None,
    ) -> None:
        self._source = TokenSource() if source is None else source
        self._account = account
        self._min_ttl_seconds = min_ttl_seconds
        self._origin = None if api_url is None else _origin_of_api(api_url)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._source!r}, account={self._account!r})"

    def _applies_to(self, url: str) -> bool:
        return self._origin is None or self._origin == _origin(url)

    def _newer_token(self, refused: Token) -> Token | None:
        """Reports the refused token. Returns a token only if it has a newer generation."""
        try:
            token = self._source.report(refused.generation, self._account, self._min_ttl_seconds)
        except TokenBrokerError as error:
            self._report_failed(error)
            return None
        return token if token.generation > refused.generation else None

    async def _newer_token_async(self, refused: Token) -> Token | None:
        try:
            token = await self._source.report_async(refused.generation, self._account, self._min_ttl_seconds)
        except TokenBrokerError as error:
            self._report_failed(error)
            return None
        return token if token.generation > refused.generation else None

    def _report_failed(self, error: TokenBrokerError) -> None:
        # The caller gets the API's own 401, which is the more useful of the two answers.
        _log.warning("the API refused the token of account %s, but the report failed: %s", self._account, error)


def _origin_of_api(url: str) -> tuple[str, str | None, int | None]:
    try:
        origin = _origin(url)
    except ValueError:  # for example a port that is not a number
        origin = "", None, None
    # A URL without a scheme has no origin, so every request would be sent without a token.
    if origin[0] not in ("http", "https") or not origin[1]:
        raise TokenBrokerError.of("not_configured", "`api_url` must be a URL such as https://platform-api.convirza.com")
    return origin


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
