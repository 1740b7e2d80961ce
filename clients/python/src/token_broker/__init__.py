"""Client of token-broker: bearer tokens for the Convirza API.

>>> from token_broker import TokenSource
>>> source = TokenSource()                      # asks the agent on 127.0.0.1
>>> token = source.get(min_ttl_seconds=30)      # from the cache, for as long as the token lasts
>>> headers = {"Authorization": token.authorization}

``token_broker.httpx`` and ``token_broker.requests`` do this for every request of these libraries.
"""

from ._cache import Token
from ._errors import (
    AccessDenied,
    CredentialsRejected,
    InvalidRequest,
    NotConfigured,
    TokenBrokerError,
    Unavailable,
    UnknownAccount,
)
from ._source import TokenSource, Transport
from ._transports import Agent, HttpApi, Lambda

__all__ = [
    "AccessDenied",
    "Agent",
    "CredentialsRejected",
    "HttpApi",
    "InvalidRequest",
    "Lambda",
    "NotConfigured",
    "Token",
    "TokenBrokerError",
    "TokenSource",
    "Transport",
    "Unavailable",
    "UnknownAccount",
]
