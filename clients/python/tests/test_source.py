"""Threads, tasks, forks, copies, and malformed answers. `test_behaviour.py` has the rules that all clients share."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from fakes import GUARD, Clock, Fakes, error

import token_broker.requests
from token_broker import (
    Agent,
    InvalidRequest,
    Token,
    TokenBrokerError,
    TokenSource,
    Unavailable,
    UnknownAccount,
)

OUTAGE = error("upstream_unavailable", "the upstream does not answer", 12)


def settle(source: TokenSource) -> None:
    """Waits for the calls in the background."""
    for entry in source._entries.values():
        if entry.call is not None:
            entry.call.outcome.result()


class TestCache:
    def test_token_names_its_account_and_its_end(self, source: TokenSource, fakes: Fakes) -> None:
        token = source.get(min_ttl_seconds=300)
        assert (token.access_token, token.account, token.generation) == ("token-secret-default-7", "default", 7)
        assert (token.requested_at, token.expires_at) == (1_000_000, 1_000_900)
        assert fakes.broker.requests == [{"account": "default", "min_ttl_seconds": "300"}]

    def test_token_that_ends_too_soon_says_by_how_much(self, source: TokenSource, fakes: Fakes) -> None:
        fakes.broker.expires_in = 20
        with pytest.raises(TokenBrokerError, match=r"the token lasts only 20 s; 30 s were requested$"):
            source.get(min_ttl_seconds=30)

    def test_token_cannot_be_changed(self, source: TokenSource) -> None:
        token = source.get()
        with pytest.raises(AttributeError):
            token.generation = 8  # type: ignore[misc]
        assert token in {token}

    def test_token_that_expires_first_is_forgotten_first(
        self, source: TokenSource, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("token_broker._source._MOST_ACCOUNTS", 2)
        source.get("apac")
        fakes.broker.expires_in = 600
        source.get("emea")
        source.get("latam")
        source.get("apac")
        assert [request["account"] for request in fakes.broker.requests] == ["apac", "emea", "latam"]

    @pytest.mark.parametrize("account", ["", "Emea", "a" * 64, "a&b", "a\n"])
    def test_an_impossible_account_is_refused_without_a_request(
        self, source: TokenSource, fakes: Fakes, account: str
    ) -> None:
        with pytest.raises(InvalidRequest):
            source.get(account)
        assert fakes.broker.requests == []

    @pytest.mark.parametrize("min_ttl", [-1, 1.5, "60"])
    def test_an_impossible_min_ttl_is_refused_without_a_request(
        self, source: TokenSource, fakes: Fakes, min_ttl: Any
    ) -> None:
        with pytest.raises(InvalidRequest):
            source.get(min_ttl_seconds=min_ttl)
        assert fakes.broker.requests == []


class TestRenewal:
    def test_that_fails_is_logged(
        self, source: TokenSource, fakes: Fakes, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        source.get()
        fakes.broker.fault = OUTAGE
        with pytest.raises(Unavailable):
            source.report(7)
        with pytest.raises(Unavailable):
            source.get("emea")
        assert caplog.records == [], "only a renewal has no caller that gets the error"
        clock.advance(600)
        assert source.get().generation == 7
        settle(source)
        assert "account default is valid, but its renewal failed: upstream_unavailable" in caplog.text
        assert [record.name for record in caplog.records] == ["token_broker"]

    def test_is_logged_without_the_text_of_another_packages_error(
        self, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        transport = Immediate()
        source = TokenSource(transport, clock=clock)
        source.get()
        source._transport = Broken()
        clock.advance(600)
        source.get()
        settle(source)
        assert caplog.messages[0].endswith("its renewal failed: ZeroDivisionError")

    @pytest.mark.parametrize("byte, due_after", [(b"\x00", 600), (b"\xff", 540)])
    def test_is_due_at_random(
        self, fakes: Fakes, clock: Clock, monkeypatch: pytest.MonkeyPatch, byte: bytes, due_after: int
    ) -> None:
        monkeypatch.setattr(os, "urandom", lambda length: byte * length)
        source = TokenSource(Agent(port=fakes.port, token=GUARD), clock=clock)
        for seconds, calls in [(0, 1), (due_after - 1, 1), (2, 2)]:
            clock.advance(seconds)
            source.get()
            settle(source)
            assert len(fakes.broker.requests) == calls

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_in_progress_during_a_fork_does_not_block_the_child(self, clock: Clock) -> None:
        transport = ByHand()
        source = TokenSource(transport, clock=clock)
        waiting = threading.Thread(target=source.get)
        waiting.start()
        transport.wait_for(1)
        with source._lock:
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    source._transport = Immediate()
                    status = source.get().generation
                finally:
                    os._exit(status)
        assert os.WEXITSTATUS(os.waitpid(child, 0)[1]) == 9
        transport.answer(0, generation=7)
        waiting.join()


class TestSingleFlight:
    def test_fifty_threads_share_one_request(self, source: TokenSource, fakes: Fakes, clock: Clock) -> None:
        fakes.broker.may_answer.clear()
        with ThreadPoolExecutor(50) as pool:
            tokens = [pool.submit(source.get) for _ in range(50)]
            wait_for_callers(source, 50)
            fakes.broker.may_answer.set()
            assert {token.result().generation for token in tokens} == {7}
        assert len(fakes.broker.requests) == 1

    def test_fifty_tasks_share_one_request(self, source: TokenSource, fakes: Fakes) -> None:
        async def all_at_once() -> list[Token]:
            return await asyncio.gather(*(source.get_async() for _ in range(50)))

        assert {token.generation for token in asyncio.run(all_at_once())} == {7}
        assert len(fakes.broker.requests) == 1

    def test_fifty_reports_are_one_request(self, source: TokenSource, fakes: Fakes, clock: Clock) -> None:
        source.get()
        fakes.broker.revoke()
        fakes.broker.may_answer.clear()
        with ThreadPoolExecutor(50) as pool:
            tokens = [pool.submit(source.report, 7) for _ in range(50)]
            wait_for_callers(source, 50)
            fakes.broker.may_answer.set()
            assert {token.result().generation for token in tokens} == {8}
        assert len(fakes.broker.requests) == 2

    def test_each_caller_gets_its_own_copy_of_the_error(self, source: TokenSource, fakes: Fakes, clock: Clock) -> None:
        fakes.broker.fault = OUTAGE
        fakes.broker.may_answer.clear()
        with ThreadPoolExecutor(2) as pool:
            calls = [pool.submit(source.get) for _ in range(2)]
            wait_for_callers(source, 2)
            fakes.broker.may_answer.set()
            errors = [call.exception() for call in calls]
        assert len(fakes.broker.requests) == 1
        assert errors[0] is not errors[1]
        assert all(isinstance(caught, Unavailable) and caught.retry_after == 12 for caught in errors)

    def test_a_cancelled_task_does_not_end_the_request_of_the_others(self, source: TokenSource, fakes: Fakes) -> None:
        async def cancel_the_first() -> Token:
            fakes.broker.may_answer.clear()
            first = asyncio.ensure_future(source.get_async())
            second = asyncio.ensure_future(source.get_async())
            await asyncio.sleep(0)
            first.cancel()
            await asyncio.wait([first])
            assert first.cancelled()
            fakes.broker.may_answer.set()
            return await second

        assert asyncio.run(cancel_the_first()).generation == 7
        assert len(fakes.broker.requests) == 1

    def test_does_not_keep_the_process_alive(self, clock: Clock) -> None:
        seen = []

        class Seen(Immediate):
            def fetch(self, *fields: Any) -> Any:
                seen.append(threading.current_thread().daemon)
                return self._answer

        TokenSource(Seen(), clock=clock).get()
        assert seen == [True]

    def test_a_defect_of_a_transport_reaches_the_caller(self, clock: Clock) -> None:
        source = TokenSource(Broken(), clock=clock)
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                source.get()

    def test_works_where_no_thread_can_be_started(self, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        def start(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr("token_broker._source.threading.Thread.start", start)
        assert TokenSource(Immediate(), clock=clock).get().generation == 9


class TestFailure:
    @pytest.mark.parametrize("seconds, requests", [(34, 1), (35, 2)])
    def test_is_remembered_unless_the_call_took_35_seconds(self, clock: Clock, seconds: int, requests: int) -> None:
        class Slow:
            requests = 0

            def fetch(self, *_: Any) -> Any:
                self.requests += 1
                clock.advance(seconds)
                raise TokenBrokerError.of("upstream_unavailable", "the upstream does not answer", 12)

        transport = Slow()
        source = TokenSource(transport, clock=clock)
        for _ in range(2):
            with pytest.raises(Unavailable):
                source.get()
            settle(source)
        assert transport.requests == requests


class TestWaiting:
    @pytest.mark.parametrize("get", [TokenSource.get, lambda source: asyncio.run(source.get_async())])
    def test_ends_within_a_second_of_a_thaw(self, clock: Clock, get: Any) -> None:
        transport = ByHand()
        source = TokenSource(transport, clock=clock)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(get, source)
            transport.wait_for(1)
            clock.wait_for_calls(3)  # the caller waits
            clock.advance(20)
            with pytest.raises(Unavailable, match="no answer from the broker within 20 s"):
                waiting.result()
            transport.answer(0, generation=7)

    def test_of_a_task_that_gave_up_leaves_nothing_behind(self, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        # Python 3.9 and 3.10 would log "Event loop is closed" when the call ends.
        futures = []

        def wrap_future(future: Any) -> Any:
            futures.append(original(future))
            return futures[-1]

        original = asyncio.wrap_future
        monkeypatch.setattr("token_broker._source.asyncio.wrap_future", wrap_future)
        transport = ByHand()
        source = TokenSource(transport, clock=clock)
        with pytest.raises(asyncio.TimeoutError):
            asyncio.run(asyncio.wait_for(source.get_async(), 0.01))
        assert [future.cancelled() for future in futures] == [True]
        transport.wait_for(1)
        transport.answer(0, generation=7)
        assert source.get().generation == 7

    def test_works_from_asyncio(self, source: TokenSource, fakes: Fakes) -> None:
        async def replace() -> Token:
            token = await source.get_async()
            fakes.broker.revoke()
            return await source.report_async(token.generation)

        assert asyncio.run(replace()).generation == 8


class TestCopies:
    @pytest.mark.parametrize("make_copy", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
    @pytest.mark.parametrize("used", [False, True])
    def test_of_a_session_work(self, fakes: Fakes, used: bool, make_copy: Any, loopback_without_proxy: None) -> None:
        session = requests.Session()
        session.auth = token_broker.requests.TokenBrokerAuth(TokenSource(Agent(port=fakes.port, token=GUARD)))
        if used:
            assert session.get(f"{fakes.url}/items", timeout=30).status_code == 200
        copied = make_copy(session)
        assert copied.get(f"{fakes.url}/items", timeout=30).status_code == 200

    def test_of_a_response_can_be_pickled(
        self, source: TokenSource, fakes: Fakes, loopback_without_proxy: None
    ) -> None:
        auth = token_broker.requests.TokenBrokerAuth(TokenSource(Agent(port=fakes.port, token=GUARD)))
        response = requests.get(f"{fakes.url}/items", auth=auth, timeout=30)
        assert pickle.loads(pickle.dumps(response)).status_code == 200

    def test_keep_the_clock_and_the_random_numbers(self, fakes: Fakes, clock: Clock) -> None:
        source = copy.copy(TokenSource(Agent(port=fakes.port, token=GUARD), clock=clock, random=lambda: 1.0))
        assert source.get().requested_at == 1_000_000
        clock.advance(540)
        source.get()
        settle(source)
        assert len(fakes.broker.requests) == 2

    def test_that_are_deep_share_the_cache(self, source: TokenSource) -> None:
        assert copy.deepcopy(source).get() is source.get()

    def test_by_pickle_hold_no_token(self, fakes: Fakes) -> None:
        source = TokenSource(Agent(port=fakes.port, token=GUARD))
        source.get()
        assert b"token-secret" not in pickle.dumps(source)


class TestErrors:
    def test_of_the_broker_keep_their_code_and_class(self, source: TokenSource) -> None:
        with pytest.raises(UnknownAccount) as caught:
            source.get("nobody")
        assert caught.value.code == "unknown_account"
        assert caught.value.request_id == "request-1"
        assert caught.value.retry_after is None

    @pytest.mark.parametrize(
        "change",
        [
            {"access_token": None},
            {"access_token": "two\r\nlines"},
            {"access_token": ""},
            {"expires_in": 0},
            {"expires_in": "900"},
            {"expires_in": 604_801},
            {"expires_in": 10**400},
            {"expires_in": 900.5},
            {"expires_in": True},
            {"generation": None},
            {"account": "another"},
        ],
    )
    def test_malformed_answers_are_refused(self, clock: Clock, change: Any) -> None:
        source = TokenSource(Immediate(**change), clock=clock)
        with pytest.raises(Unavailable) as caught:
            source.get()
        assert caught.value.code == "broker_unavailable"

    @pytest.mark.parametrize("number", ["900", "900.0", "9E2", "604800"])
    def test_whole_numbers_are_taken_as_json_libraries_write_them(
        self, source: TokenSource, fakes: Fakes, number: str
    ) -> None:
        body = f'{{"access_token": "token-secret", "expires_in": {number}, "generation": {number}}}'
        fakes.broker.raw = (200, body.encode())
        token = source.get()
        assert token.expires_at == 1_000_000 + token.generation == 1_000_000 + float(number)
        assert isinstance(token.generation, int)

    @pytest.mark.parametrize("answer", [None, [], ["access_token"], "access_token", 7])
    def test_answers_that_are_not_a_mapping_are_refused(self, clock: Clock, answer: Any) -> None:
        transport = Immediate()
        transport._answer = answer
        with pytest.raises(Unavailable) as caught:
            TokenSource(transport, clock=clock).get()
        assert caught.value.code == "broker_unavailable"


def wait_for_callers(source: TokenSource, callers: int) -> None:
    """Waits until this many threads wait for the call in flight."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        entry = source._entries.get("default")
        if entry is not None and entry.call is not None and len(entry.call.outcome._waiters) >= callers:
            return
    raise AssertionError("there are fewer callers")


class Immediate:
    """A transport that answers at once."""

    def __init__(self, **change: Any) -> None:
        self._answer = {"access_token": "token-secret", "expires_in": 900, "generation": 9, **change}

    def fetch(self, account: str, min_ttl: int | None, rejected: int | None) -> Any:
        return self._answer


class Broken:
    def fetch(self, account: str, min_ttl: int | None, rejected: int | None) -> Any:
        return 1 // 0


class ByHand:
    """A transport whose answers the test chooses, in any order."""

    def __init__(self) -> None:
        self._answers: list[Any] = []
        self._changed = threading.Condition()

    def fetch(self, account: str, min_ttl: int | None, rejected: int | None) -> Any:
        with self._changed:
            mine = len(self._answers)
            self._answers.append(None)
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._answers[mine] is not None, timeout=30)
            return self._answers[mine]

    def wait_for(self, requests: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self._answers) >= requests, timeout=30)

    def answer(self, request: int, generation: int) -> None:
        with self._changed:
            self._answers[request] = {"access_token": "token-secret", "expires_in": 900, "generation": generation}
            self._changed.notify_all()
