"""A broker in memory, for tests without a network.

With ``pytest_plugins = ["token_broker.testing"]`` in ``conftest.py``, tests have the fixture ``fake_broker``. README.md
shows its use.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping

from . import _source, _transports
from ._errors import TokenBrokerError
from ._source import TokenSource

__all__ = ["FakeBroker"]


class FakeBroker:
    """A transport that answers like the broker. Its time moves only when a test says so."""

    def __init__(self, *, expires_in: int = 900) -> None:
        #: How many seconds each answer lets a caller keep its token.
        self.expires_in = expires_in
        #: The fields of the upstream's answer that each answer includes as `extra`.
        self.extra: dict[str, object] = {}
        #: The requests received, with the broker's field names.
        self.requests: list[dict[str, str | int]] = []
        #: The time of `source`, in seconds.
        self.now = 1_800_000_000.0
        self._generations: dict[str, int] = {}
        self._refused: set[str] = set()
        self._error: TokenBrokerError | None = None
        self._lock = threading.Lock()

    def source(self) -> TokenSource:
        """A token source of this broker and its time, with an empty cache."""
        return TokenSource(self, clock=lambda: self.now, random=lambda: 0.0)

    def advance(self, seconds: float) -> None:
        """Lets time pass. Tokens expire after `expires_in`, and are renewed from two thirds of that on."""
        self.now += seconds

    def revoke(self, account: str = "default") -> None:
        """From now on the API refuses the account's token. The broker replaces it once a caller reports it."""
        self._refused.add(self._token(account))

    def accepts(self, authorization: str | None) -> bool:
        """Whether the API accepts this `Authorization` header. If not, let your fake API answer 401."""
        tokens = {self._token(account) for account in self._generations} - self._refused
        return authorization in {f"Bearer {token}" for token in tokens}

    def fail(self, code: str = "upstream_unavailable", retry_after: int | None = None) -> None:
        """Lets all requests fail. `broker_unavailable` is the code without a network."""
        self._error = TokenBrokerError.of(code, "as the test says", retry_after)

    def recover(self) -> None:
        """Ends `fail`."""
        self._error = None

    def fetch(self, account: str, min_ttl_seconds: int | None, rejected_generation: int | None) -> Mapping[str, object]:
        """Answers one request, as a `Transport` does."""
        with self._lock:
            self.requests.append(_transports._fields(account, min_ttl_seconds, rejected_generation))
            if self._error is not None:
                raise self._error
            generation = self._generations.setdefault(account, 1)
            if rejected_generation == generation and self._token(account) in self._refused:
                self._generations[account] += 1
            return {
                "access_token": self._token(account),
                "token_type": "Bearer",
                "expires_in": self.expires_in,
                "account": account,
                "generation": self._generations[account],
                "served_from": "memory",
                **({"extra": self.extra} if self.extra else {}),
            }

    def _token(self, account: str) -> str:
        return f"fake-token-{account}-{self._generations.get(account, 1)}"


try:
    import pytest
except ImportError:
    pass
else:

    @pytest.fixture
    def fake_broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBroker]:
        """A `FakeBroker` that also answers every other source in this process, whatever its transport."""
        broker = FakeBroker()
        for transport in (_transports.Agent, _transports.Lambda, _transports.HttpApi):
            monkeypatch.setattr(transport, "fetch", lambda _, *fields: broker.fetch(*fields))
        _forget()
        yield broker
        _forget()


def _forget() -> None:
    for source in list(_source._sources):
        source._entries.clear()
