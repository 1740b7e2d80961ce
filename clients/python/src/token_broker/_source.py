"""Tokens, cached by account and renewed ahead of their expiry."""

from __future__ import annotations

import asyncio
import concurrent.futures
import copy
import logging
import math
import os
import re
import threading
import time
import weakref
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Callable, Protocol

from ._errors import InvalidRequest, TokenBrokerError, Unavailable
from ._transports import Agent

_log = logging.getLogger("token_broker")

_ACCOUNT = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
# Only these characters can be sent in a header.
_ACCESS_TOKEN = re.compile(r"[!-~]+")

#: The `min_ttl_seconds` of a caller that names none; less for tokens that live shorter than twice this.
_DEFAULT_MIN_TTL = 60
#: The broker's own limit for `expires_in`. A longer one is a defect.
_MAX_LIFETIME = 7 * 86_400
#: The part of its lifetime after which a token is renewed in the background.
_RENEW_AFTER = 2 / 3
#: A round trip of up to this many seconds does not count against `min_ttl_seconds`. The broker's own margin covers it.
_ROUND_TRIP_SECONDS = 2
#: The pause before the next background renewal after one that failed.
_RETRY_SECONDS = 5
_RETRY_SECONDS_LIMIT = 60
#: For this long after a failed request, callers get its error again instead of another request. It doubles with each
#: failure in a row, and is longer if `retry_after` says so.
_COOLDOWN_SECONDS = 0.25
_COOLDOWN_SECONDS_LIMIT = 10
#: After the broker has found a reported token alive, the same generation is not reported again for this long.
_REPORT_SECONDS = 5
#: A request to the broker that takes longer is abandoned, for example one that was frozen together with its Lambda.
_REQUEST_SECONDS = 40
#: How many requests one call may wait for.
_MAX_REQUESTS = 5


class Transport(Protocol):
    """One way to reach the broker."""

    def fetch(self, account: str, min_ttl_seconds: int | None, rejected_generation: int | None) -> Mapping[str, object]:
        """Returns the broker's token answer, decoded. Raises `TokenBrokerError`."""
        ...


@dataclass(frozen=True)
class Token:
    """A bearer token. Only `access_token` and `authorization` show it; `repr` and `str` do not."""

    access_token: str = field(repr=False)
    generation: int
    account: str
    #: When the request for it was sent, by the wall clock.
    requested_at: float
    #: When the caller must stop using it, by the wall clock.
    expires_at: float

    @property
    def authorization(self) -> str:
        """The value of the `Authorization` header."""
        return f"Bearer {self.access_token}"

    @property
    def _lifetime(self) -> float:
        return self.expires_at - self.requested_at

    def _min_ttl(self, min_ttl_seconds: int | None) -> float:
        if min_ttl_seconds is None:
            return min(_DEFAULT_MIN_TTL, self._lifetime / 2)
        return min_ttl_seconds

    def _lasts(self, min_ttl_seconds: int | None, now: float) -> bool:
        left = self.expires_at - now
        return left > 0 and left >= self._min_ttl(min_ttl_seconds)

    def _lasts_on_arrival(self, min_ttl_seconds: int | None, now: float) -> bool:
        # The broker counts from the moment of its answer. Without this allowance, a `min_ttl_seconds` that equals
        # the broker's longest `expires_in` could never be met.
        prompt = now - self.requested_at <= _ROUND_TRIP_SECONDS
        enough = self._lifetime >= self._min_ttl(min_ttl_seconds)
        return self._lasts(min_ttl_seconds, now) or (prompt and enough and now < self.expires_at)


class _Request:
    """One request to the broker. Any number of callers wait for it."""

    def __init__(self, min_ttl: int | None, rejected: int | None, started_at: float, is_renewal: bool) -> None:
        self.min_ttl = min_ttl
        self.rejected = rejected
        self.started_at = started_at
        self.is_renewal = is_renewal
        self.outcome: Token | BaseException | None = None
        self.done: concurrent.futures.Future[None] = concurrent.futures.Future()
        # A caller that is cancelled while it waits must not cancel the future of the others.
        self.done.set_running_or_notify_cancel()

    @property
    def has_options(self) -> bool:
        return self.min_ttl is not None or self.rejected is not None

    def asks_for(self, min_ttl: int | None) -> bool:
        """Whether its answer has to satisfy a caller with this `min_ttl`."""
        default = _DEFAULT_MIN_TTL
        return (default if self.min_ttl is None else self.min_ttl) >= (default if min_ttl is None else min_ttl)

    def failed_for_others(self, min_ttl: int | None, rejected: int | None) -> bool:
        """Whether it failed for the options of another caller, which a caller with these options does not share."""
        return isinstance(self.outcome, InvalidRequest) and (self.min_ttl, self.rejected) != (min_ttl, rejected)

    def is_abandoned(self, now: float) -> bool:
        return now - self.started_at > _REQUEST_SECONDS

    def wait(self) -> None:
        concurrent.futures.wait([self.done], timeout=_REQUEST_SECONDS)

    async def wait_async(self) -> None:
        await asyncio.wait([asyncio.wrap_future(self.done)], timeout=_REQUEST_SECONDS)

    def token(self) -> Token:
        if isinstance(self.outcome, Token):
            return self.outcome
        if self.outcome is None:
            raise Unavailable("broker_unavailable", f"no answer within {_REQUEST_SECONDS} s")
        # Each caller raises its own copy: a traceback belongs to one thread.
        raise copy.copy(self.outcome) if isinstance(self.outcome, TokenBrokerError) else self.outcome


class _Entry:
    """What the source knows of one account."""

    def __init__(self) -> None:
        self.token: Token | None = None
        self.renew_at = 0.0
        self.request: _Request | None = None
        #: A generation whose report is answered from the cache, and until when.
        self.reported: tuple[int, float] = (-1, 0.0)
        #: The last error, the time of the failure, and for how long callers get it again.
        self.failure: tuple[TokenBrokerError, float, float] | None = None
        self.failures_in_a_row = 0

    def request_in_progress(self, now: float) -> _Request | None:
        return None if self.request is None or self.request.is_abandoned(now) else self.request

    def raise_during_cooldown(self, now: float) -> None:
        if self.failure is None:
            return
        error, failed_at, cooldown = self.failure
        waited = now - failed_at
        if 0 <= waited < cooldown:
            left = None if error.retry_after is None else math.ceil(max(error.retry_after, cooldown) - waited)
            raise TokenBrokerError.of(error.code, error.description, left, error.request_id)

    def store(self, token: Token, request: _Request, now: float) -> None:
        self.failure = None
        self.failures_in_a_row = 0
        known = self.token
        # An abandoned request may end after its successor. Its token is stored only if it is the better one. But if
        # the API refused the known token, and the broker answers that with an older one, its table was restored.
        if (
            known is None
            or not known._lasts(request.min_ttl, now)
            or (token.generation, token.requested_at) >= (known.generation, known.requested_at)
            or (request.rejected is not None and request.rejected >= known.generation)
        ):
            self.token = token
            self.renew_at = token.requested_at + token._lifetime * _RENEW_AFTER
        else:
            self.renew_at = max(self.renew_at, now + _RETRY_SECONDS)
        if request.rejected is not None and token.generation <= request.rejected:
            self.reported = (request.rejected, now + _REPORT_SECONDS)

    def store_failure(self, error: BaseException, request: _Request, now: float) -> None:
        retry_after = (error.retry_after if isinstance(error, TokenBrokerError) else None) or 0
        again_at = now + min(max(retry_after, _RETRY_SECONDS), _RETRY_SECONDS_LIMIT)
        if request.rejected is not None:
            self.reported = (request.rejected, again_at)
        if isinstance(error, InvalidRequest) and request.has_options:
            return  # a fault in one caller's options must not delay others
        self.renew_at = again_at
        self.failure = None
        if isinstance(error, TokenBrokerError):
            cooldown = retry_after or _COOLDOWN_SECONDS * 2 ** min(self.failures_in_a_row, 10)
            self.failure = (error, now, min(cooldown, _COOLDOWN_SECONDS_LIMIT))
            self.failures_in_a_row += 1


class TokenSource:
    """Tokens from the broker. Safe to share between threads and tasks; create one for the whole process.

    Without a transport, it asks the agent on 127.0.0.1.
    """

    def __init__(self, transport: Transport | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self._transport: Transport = Agent() if transport is None else transport
        # The wall clock: a monotonic clock may stand still while Lambda has frozen the environment.
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.Lock()
        _sources.add(self)

    def __repr__(self) -> str:
        return f"TokenSource({self._transport!r}, accounts={sorted(self._entries)})"

    def get(self, account: str = "default", min_ttl_seconds: int | None = None) -> Token:
        """Returns a token that is valid for at least `min_ttl_seconds`.

        The default is 60 s, or half of the token's lifetime if that is less. The answer comes from the cache if
        possible. From two thirds of the lifetime on, the token is renewed in the background. Concurrent callers share
        one request to the broker.
        """
        return _run(self._get(account, min_ttl_seconds))

    def report(self, generation: int, account: str = "default", min_ttl_seconds: int | None = None) -> Token:
        """Reports that the API refused the token of this generation with 401, and returns the token to use now.

        The returned token has a newer generation if the broker replaced the refused one. It has the same generation
        if the broker found that token alive: the API refused the request for another reason, so do not retry it.
        """
        return _run(self._report(generation, account, min_ttl_seconds))

    async def get_async(self, account: str = "default", min_ttl_seconds: int | None = None) -> Token:
        """`get` for asyncio. It does not block the event loop."""
        return await _run_async(self._get(account, min_ttl_seconds))

    async def report_async(
        self, generation: int, account: str = "default", min_ttl_seconds: int | None = None
    ) -> Token:
        """`report` for asyncio. It does not block the event loop."""
        return await _run_async(self._report(generation, account, min_ttl_seconds))

    def _get(self, account: str, min_ttl: int | None) -> _Steps:
        _check(account, min_ttl)
        for _ in range(_MAX_REQUESTS):
            cached, request = self._look_up(account, min_ttl)
            if cached is not None:
                return cached
            assert request is not None
            yield request
            if request.failed_for_others(min_ttl, None):
                continue
            token = request.token()
            if token._lasts_on_arrival(min_ttl, self._clock()):
                return token
            if request.asks_for(min_ttl) and token._lifetime < token._min_ttl(min_ttl):
                break
            # The request was for less than this caller needs, or the token expired before this caller woke up.
        wanted = "long enough" if min_ttl is None else f"for {min_ttl} s"
        raise TokenBrokerError("token_expires_too_soon", f"the broker has no token that lasts {wanted}")

    def _report(self, generation: int, account: str, min_ttl: int | None) -> _Steps:
        _check(account, min_ttl)
        for _ in range(_MAX_REQUESTS):
            cached, request, is_report = self._look_up_report(account, min_ttl, generation)
            if cached is not None:
                return cached
            if request is None:
                break
            yield request
            if not is_report or request.failed_for_others(min_ttl, generation):
                continue
            token = request.token()
            if token._lasts_on_arrival(min_ttl, self._clock()):
                return token
            break
        return (yield from self._get(account, min_ttl))

    def _look_up(self, account: str, min_ttl: int | None) -> tuple[Token | None, _Request | None]:
        """The cached token if it lasts, else the request to wait for."""
        with self._lock:
            now = self._clock()
            entry = self._entries.setdefault(account, _Entry())
            token = entry.token
            lasts = token is not None and token._lasts(min_ttl, now)
            request = entry.request_in_progress(now)
            if request is not None or (lasts and now < entry.renew_at):
                return (token if lasts else None), request
            if not lasts:
                entry.raise_during_cooldown(now)
            request = entry.request = _Request(min_ttl, None, now, is_renewal=lasts)
        self._start(account, entry, request)
        return (token if lasts else None), request

    def _look_up_report(
        self, account: str, min_ttl: int | None, generation: int
    ) -> tuple[Token | None, _Request | None, bool]:
        """The cached token if it answers the report, else the request to wait for, and whether that is this report.

        None of them: the generation was reported a moment ago.
        """
        with self._lock:
            now = self._clock()
            entry = self._entries.setdefault(account, _Entry())
            token = entry.token
            if token is not None and token.generation > generation and token._lasts(min_ttl, now):
                return token, None, False
            request = entry.request_in_progress(now)
            if request is not None:
                return None, request, request.rejected == generation
            reported, until = entry.reported
            if reported == generation and now < until:
                return None, None, False
            request = entry.request = _Request(min_ttl, generation, now, is_renewal=False)
        self._start(account, entry, request)
        return None, request, True

    def _start(self, account: str, entry: _Entry, request: _Request) -> None:
        # A separate thread: a caller that is cancelled or interrupted does not end a request that others wait for.
        arguments = (account, entry, request)
        thread = threading.Thread(target=self._perform, args=arguments, name="token-broker", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no further thread is possible
            self._perform(*arguments)

    def _perform(self, account: str, entry: _Entry, request: _Request) -> None:
        outcome: Token | BaseException
        try:
            outcome = self._fetch(account, request)
        except BaseException as error:
            outcome = error
        if request.is_renewal and not isinstance(outcome, Token):
            reason = outcome if isinstance(outcome, TokenBrokerError) else type(outcome).__name__
            _log.warning("the token of account %s is valid, but its renewal failed: %s", account, reason)
        with self._lock:
            now = self._clock()
            if isinstance(outcome, Token):
                entry.store(outcome, request, now)
            elif entry.request is request:
                entry.store_failure(outcome, request, now)
            if entry.request is request:
                entry.request = None
            request.outcome = outcome
        request.done.set_result(None)

    def _fetch(self, account: str, request: _Request) -> Token:
        requested_at = self._clock()
        # The answer is kept in no variable: error trackers record the variables of a frame that raises.
        token = _parse(self._transport.fetch(account, request.min_ttl, request.rejected), account, requested_at)
        if token is None:
            raise Unavailable("broker_unavailable", "the response is not a token answer")
        return token


_Steps = Generator[_Request, None, Token]


def _run(steps: _Steps) -> Token:
    try:
        while True:
            next(steps).wait()
    except StopIteration as stop:
        token: Token = stop.value
        return token


async def _run_async(steps: _Steps) -> Token:
    while True:
        try:
            request = next(steps)
        except StopIteration as stop:
            token: Token = stop.value
            return token
        await request.wait_async()


def _check(account: str, min_ttl: int | None) -> None:
    if not _ACCOUNT.fullmatch(account):
        raise InvalidRequest(
            "invalid_request", "`account` has to be a name of 1 to 63 lower-case letters, digits and hyphens"
        )
    if min_ttl is not None and (not isinstance(min_ttl, int) or min_ttl < 0):
        raise InvalidRequest("invalid_request", "`min_ttl_seconds` has to be a whole number")


def _parse(answer: object, account: str, requested_at: float) -> Token | None:
    if not isinstance(answer, Mapping):
        return None
    access_token, expires_in, generation = (answer.get(name) for name in ("access_token", "expires_in", "generation"))
    if not isinstance(access_token, str) or not _ACCESS_TOKEN.fullmatch(access_token):
        return None
    if not isinstance(expires_in, int) or not 0 < expires_in <= _MAX_LIFETIME or not isinstance(generation, int):
        return None
    if answer.get("account", account) != account:
        return None
    return Token(access_token, generation, account, requested_at, requested_at + expires_in)


_sources: weakref.WeakSet[TokenSource] = weakref.WeakSet()


def _after_fork() -> None:
    # The child has none of the parent's threads: no request is in progress, and nothing will release the lock.
    for source in _sources:
        source._lock = threading.Lock()
        for entry in source._entries.values():
            entry.request = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
