"""Tokens, cached by account and renewed before they expire.

`crates/contract/behaviour.json` has the rules that all clients share.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import copy
import functools
import heapq
import logging
import os
import re
import threading
import time
import weakref
from collections.abc import Generator, Mapping
from typing import Any, Callable, Protocol

from ._cache import ANY, CLOCK_STEP_SECONDS, Demand, Entry, Token
from ._errors import InvalidRequest, TokenBrokerError
from ._transports import Agent, _whole_number

_log = logging.getLogger("token_broker")

_ACCOUNT = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
# Only these characters can be sent in a header.
_ACCESS_TOKEN = re.compile(r"[!-~]+")

#: The broker's own limit for `expires_in`. A longer one is a defect.
_MAX_LIFETIME = 7 * 86_400
#: How long a caller waits in all while there is an unexpired token.
_WAIT_SECONDS = 5
#: How long a caller waits in all for the first token, and for a report: the broker may have to log in.
_LOGIN_WAIT_SECONDS = 20
#: A call to the broker that takes longer is given up.
_CALL_SECONDS = 30
#: A limit, so that a caller that keeps using new account names cannot fill the memory.
_MOST_ACCOUNTS = 1_000


class Transport(Protocol):
    """One way to reach the broker."""

    def fetch(self, account: str, min_ttl_seconds: int | None, rejected_generation: int | None) -> Mapping[str, object]:
        """Returns the broker's token answer, decoded. Raises `TokenBrokerError`."""
        ...


class _Call:
    """One call to the broker. Any number of callers wait for it."""

    def __init__(self, demand: Demand, started_at: float) -> None:
        self.demand = demand
        self.started_at = started_at
        self.outcome: concurrent.futures.Future[Token | BaseException] = concurrent.futures.Future()
        # A caller that is cancelled while it waits must not cancel the future of the others.
        self.outcome.set_running_or_notify_cancel()

    def began_within(self, seconds: float, now: float) -> bool:
        """False after a freeze, when its connection is dead, and after the clock stepped back."""
        return -CLOCK_STEP_SECONDS <= now - self.started_at < seconds

    def wait(self) -> float:
        """Waits for at most a second. Returns for how long."""
        began = time.monotonic()
        concurrent.futures.wait([self.outcome], timeout=1)
        return time.monotonic() - began

    async def wait_async(self) -> float:
        began = time.monotonic()
        waiting = asyncio.wrap_future(self.outcome)
        try:
            await asyncio.wait([waiting], timeout=1)
        finally:
            waiting.cancel()  # or the call's end would look for an event loop that may be closed by then
        return time.monotonic() - began


class _Account(Entry):
    """What the source knows about one account, and the call in flight."""

    def __init__(self) -> None:
        super().__init__()
        self.call: _Call | None = None


def _draw() -> float:
    # From the kernel each time, because a generator in memory would repeat itself in every copy of a snapshot.
    return int.from_bytes(os.urandom(6), "big") / 2**48


class TokenSource:
    """Tokens from the broker. Safe to share between threads and tasks; create one for the whole process.

    Without a transport, it asks the agent on 127.0.0.1. A pickled source is unpickled without its tokens. A deep copy
    is the source itself.
    """

    def __init__(
        self,
        transport: Transport | None = None,
        *,
        clock: Callable[[], float] = time.time,
        random: Callable[[], float] = _draw,
    ) -> None:
        self._transport: Transport = Agent() if transport is None else transport
        # The wall clock: a monotonic clock may stand still while Lambda has frozen the environment.
        self._clock = clock
        self._random = random
        self._entries: dict[str, _Account] = {}
        self._lock = threading.Lock()
        _sources.add(self)

    def __repr__(self) -> str:
        return f"TokenSource({self._transport!r}, accounts={sorted(self._entries)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(TokenSource, self._transport, clock=self._clock, random=self._random), ()

    def __deepcopy__(self, memo: object) -> TokenSource:
        return self

    def get(self, account: str = "default", min_ttl_seconds: int | None = None) -> Token:
        """Returns a token that is valid for at least `min_ttl_seconds`.

        The default is 60 s, or half of the token's lifetime if that is less. The answer comes from the cache if
        possible. From two thirds of the lifetime on, the token is renewed in the background. Concurrent callers share
        one call to the broker, and wait for 5 s in all, or 20 s if there is no valid token.
        """
        return _run(self._obtain(account, Demand(min_ttl_seconds)))

    def report(self, generation: int, account: str = "default", min_ttl_seconds: int | None = None) -> Token:
        """Reports that the API refused the token of this generation with 401, and returns the token to use now.

        The returned token has a newer generation if the broker replaced the refused one. It has the same generation
        if the broker found that token alive: the API refused the request for another reason, so do not retry it.
        """
        return _run(self._obtain(account, Demand(min_ttl_seconds, generation)))

    async def get_async(self, account: str = "default", min_ttl_seconds: int | None = None) -> Token:
        """`get` for asyncio. It does not block the event loop."""
        return await _run_async(self._obtain(account, Demand(min_ttl_seconds)))

    async def report_async(
        self, generation: int, account: str = "default", min_ttl_seconds: int | None = None
    ) -> Token:
        """`report` for asyncio. It does not block the event loop."""
        return await _run_async(self._obtain(account, Demand(min_ttl_seconds, generation)))

    def _obtain(self, account: str, demand: Demand) -> _Steps:
        """Yields a call each time the caller has to wait for it, and is sent how long that took: at most a second."""
        _check(account, demand.min_ttl)
        limit = self._longest_wait(account, demand)
        gives_up_at = self._clock() + limit
        seconds_left: float = limit  # counted, because the clock may step back
        while True:
            call = self._look_up(account, demand)
            if isinstance(call, Token):
                return call
            while not call.outcome.done():
                if seconds_left <= 0 or self._clock() >= gives_up_at:
                    raise TokenBrokerError.of(
                        "broker_unavailable", f"no answer from the broker within {limit} s; try again", 1
                    )
                seconds_left -= yield call
            outcome = call.outcome.result()
            if isinstance(outcome, Token):
                if demand.is_covered_by(call.demand):
                    return demand.check(outcome, self._clock())
            elif call.demand == demand or not isinstance(outcome, InvalidRequest):
                # Each caller raises its own copy: a traceback belongs to one thread.
                raise copy.copy(outcome) if isinstance(outcome, TokenBrokerError) else outcome

    def _longest_wait(self, account: str, demand: Demand) -> int:
        entry = self._entries.get(account)
        has_token = entry is not None and entry.expires_at > self._clock()
        return _WAIT_SECONDS if has_token and demand.rejected is None else _LOGIN_WAIT_SECONDS

    def _look_up(self, account: str, demand: Demand) -> Token | _Call:
        """The cached token if it answers the demand, else the call to wait for."""
        with self._lock:
            now = self._clock()
            entry = self._entries.get(account) or self._add(account)
            token = entry.answer(demand, now)
            if token is None:
                entry.raise_failure(now)
            elif not entry.renewal_is_due(now):
                return token
            call = entry.call
            if call is not None and call.began_within(_CALL_SECONDS, now):
                return token or call
            call = entry.call = _Call(demand if token is None else ANY, now)
        # A separate thread, so that a cancelled or interrupted caller does not end a call for which others wait.
        self._start(account, entry, call)
        return token or call

    def _add(self, account: str) -> _Account:
        excess = len(self._entries) + 1 - _MOST_ACCOUNTS
        idle = [name for name, entry in self._entries.items() if entry.call is None] if excess > 0 else []
        for name in heapq.nsmallest(excess, idle, key=lambda name: self._entries[name].expires_at):
            del self._entries[name]
        entry = self._entries[account] = _Account()
        return entry

    def _start(self, account: str, entry: _Account, call: _Call) -> None:
        arguments = (account, entry, call)
        thread = threading.Thread(target=self._perform, args=arguments, name="token-broker", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads are possible
            self._perform(*arguments)

    def _perform(self, account: str, entry: _Account, call: _Call) -> None:
        outcome: Token | BaseException
        try:
            outcome = self._fetch(account, call)
        except BaseException as error:
            outcome = error
        with self._lock:
            now, draw = self._clock(), self._random()
            is_current = entry.call is call
            if is_current:
                entry.call = None
            if isinstance(outcome, Token):
                entry.store(call.demand, outcome, now, draw)
            # A call that was replaced, or interrupted by a freeze, says nothing about the next one.
            elif is_current and call.began_within(_CALL_SECONDS + CLOCK_STEP_SECONDS, now):
                entry.fail(call.demand, outcome, now, draw)
        if not isinstance(outcome, Token) and call.demand == ANY and entry.expires_at > now:
            reason = outcome if isinstance(outcome, TokenBrokerError) else type(outcome).__name__
            _log.warning("the token of account %s is valid, but its renewal failed: %s", account, reason)
        call.outcome.set_result(outcome)

    def _fetch(self, account: str, call: _Call) -> Token:
        fetch, demand = self._transport.fetch, call.demand
        # The answer is kept in no variable: error trackers record the variables of a frame that raises. The token's
        # time counts from when the call began. If the clock stepped back meanwhile, the earlier instant counts.
        token = _parse(fetch(account, demand.min_ttl, demand.rejected), account, min(call.started_at, self._clock()))
        if token is None:
            raise TokenBrokerError.of("broker_unavailable", "the response is not a token answer")
        return token


_Steps = Generator[_Call, float, Token]


def _run(steps: _Steps) -> Token:
    try:
        call = next(steps)
        while True:
            call = steps.send(call.wait())
    except StopIteration as stop:
        token: Token = stop.value
        return token


async def _run_async(steps: _Steps) -> Token:
    try:
        call = next(steps)
        while True:
            call = steps.send(await call.wait_async())
    except StopIteration as stop:
        token: Token = stop.value
        return token


def _check(account: str, min_ttl: int | None) -> None:
    if not _ACCOUNT.fullmatch(account):
        raise TokenBrokerError.of(
            "invalid_request", "`account` must be a name of 1 to 63 lower-case letters, digits and hyphens"
        )
    if min_ttl is not None and (not isinstance(min_ttl, int) or min_ttl < 0):
        raise TokenBrokerError.of("invalid_request", "`min_ttl_seconds` must be a whole number")


def _parse(answer: object, account: str, requested_at: float) -> Token | None:
    if not isinstance(answer, Mapping):
        return None
    access_token = answer.get("access_token")
    expires_in, generation = _whole_number(answer.get("expires_in")), _whole_number(answer.get("generation"))
    if not isinstance(access_token, str) or not _ACCESS_TOKEN.fullmatch(access_token):
        return None
    if expires_in is None or not 0 < expires_in <= _MAX_LIFETIME or generation is None:
        return None
    if answer.get("account", account) != account:
        return None
    extra = answer.get("extra")
    extra = extra if isinstance(extra, Mapping) else {}
    return Token(access_token, generation, account, requested_at, requested_at + expires_in, extra)


_sources: weakref.WeakSet[TokenSource] = weakref.WeakSet()


def _after_fork() -> None:
    # The child has none of the parent's threads: no request is in progress, and nothing will release the lock.
    for source in _sources:
        source._lock = threading.Lock()
        for entry in source._entries.values():
            entry.call = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
