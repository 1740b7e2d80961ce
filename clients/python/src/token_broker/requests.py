"""`TokenBrokerAuth` for requests (extra `requests`)."""

from __future__ import annotations

import functools
from typing import Any

import requests
import requests.auth
import requests.utils

from ._auth import AccountAuth
from ._cache import Token

__all__ = ["TokenBrokerAuth"]


class TokenBrokerAuth(AccountAuth, requests.auth.AuthBase):
    """Adds the account's bearer token to each request, and replaces a token that the API refuses.

    After a 401 it reports the token's generation. It repeats the request once if the broker has a newer generation
    and the body can be sent again: there is none, it is in memory, or it is a file that can be rewound.
    """

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if not self._applies_to(request.url or ""):
            return request
        token = self._source.get(self._account, self._min_ttl_seconds)
        request.headers["Authorization"] = token.authorization
        request.hooks["response"].append(functools.partial(self._on_response, token))
        return request

    def _on_response(self, token: Token, response: requests.Response, **kwargs: Any) -> requests.Response:
        # After a redirect to another host, requests sends no token. A 401 from that host says nothing about the token.
        sent = response.request.headers.get("Authorization")
        if response.status_code != 401 or sent != token.authorization:
            return response
        newer = self._newer_token(token)
        request = response.request.copy()
        if newer is None or not _rewind(request):
            return response
        # The connection is free for the next request once the response is read.
        response.content  # noqa: B018
        response.close()
        request.headers["Authorization"] = newer.authorization
        connection: Any = response.connection
        retried: requests.Response = connection.send(request, **kwargs)
        retried.history.append(response)
        retried.request = request
        return retried


def _rewind(request: requests.PreparedRequest) -> bool:
    if request.body is None or isinstance(request.body, (bytes, str)):
        return True
    try:
        requests.utils.rewind_body(request)
    except (requests.exceptions.UnrewindableBodyError, ValueError):  # ValueError: the file is closed
        return False
    return True
