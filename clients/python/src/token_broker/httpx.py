"""`TokenBrokerAuth` for httpx (extra `httpx`), for synchronous and asynchronous clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Generator
from typing import Callable, TypeVar

import httpx

from ._auth import AccountAuth
from ._cache import Token

__all__ = ["TokenBrokerAuth"]

_T = TypeVar("_T")


class TokenBrokerAuth(AccountAuth, httpx.Auth):
    """Adds the account's bearer token to each request, and replaces a token that the API refuses.

    After a 401 it reports the token's generation. It repeats the request once if the broker has a newer generation
    and the body is in memory. httpx keeps bytes, text, JSON and forms in memory, but not streams and uploaded files.
    After a redirect it repeats only GET, HEAD and OPTIONS, because another method may already have taken effect.
    """

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if not self._applies_to(str(request.url)):
            yield request
            return
        token = self._source.get(self._account, self._min_ttl_seconds)
        request.headers["Authorization"] = token.authorization
        response = yield request
        if not _is_refused(response, token):
            return
        newer = self._newer_token(token)
        if newer is not None and _may_be_resent(request, response):
            request.headers["Authorization"] = newer.authorization
            yield request

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        if not self._applies_to(str(request.url)):
            yield request
            return
        token = await _call(
            lambda: self._source.get_async(self._account, self._min_ttl_seconds),
            lambda: self._source.get(self._account, self._min_ttl_seconds),
        )
        request.headers["Authorization"] = token.authorization
        response = yield request
        if not _is_refused(response, token):
            return
        newer = await _call(lambda: self._newer_token_async(token), lambda: self._newer_token(token))
        if newer is not None and _may_be_resent(request, response):
            request.headers["Authorization"] = newer.authorization
            yield request


def _is_refused(response: httpx.Response, token: Token) -> bool:
    # After a redirect to another host, httpx sends no token. A 401 from that host says nothing about the token.
    return response.status_code == 401 and response.request.headers.get("Authorization") == token.authorization


def _may_be_resent(request: httpx.Request, response: httpx.Response) -> bool:
    # httpx would start again before the redirects.
    has_taken_effect = bool(response.history) and request.method not in ("GET", "HEAD", "OPTIONS")
    return not has_taken_effect and isinstance(request.stream, httpx.ByteStream)


async def _call(on_asyncio: Callable[[], Awaitable[_T]], in_thread: Callable[[], _T]) -> _T:
    try:
        asyncio.get_running_loop()
    except RuntimeError:  # httpx runs on trio as well
        from anyio import to_thread

        return await to_thread.run_sync(in_thread)
    return await on_asyncio()
