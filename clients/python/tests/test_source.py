"""The cache, the renewals, the reports and the outages, through a real agent transport and a fake clock."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fakes import Clock, Fakes, error

from token_broker import (
    InvalidRequest,
    Token,
    TokenBrokerError,
    TokenSource,
    Unavailable,
    UnknownAccount,
)

OUTAGE = error("upstream_unavailable", "the upstream does not answer", 12)


def settle(source: TokenSource) -> None:
    """Waits for the renewals in the background."""
    for entry in source._entries.values():
        if entry.request is not None:
            entry.request.wait()


class TestCache:
    def test_one_request_serves_every_call_until_the_renewal(
        self, source: TokenSource, fakes: Fakes, clock: Clock
    ) -> None:
        first = source.get()
        clock.advance(599)
        assert source.get() is first
        assert first.access_token == "token-secret-default-7"
        assert first.expires_at == 1_000_000 + 900
        assert fakes.broker.requests == [{"account": "default"}]

    def test_accounts_are_cached_separately(self, source: TokenSource, fakes: Fakes) -> None:
        assert source.get("emea").account == "emea"
        assert source.get("default").access_token != source.get("emea").access_token
        assert len(fakes.broker.requests) == 2

    def test_an_expired_token_is_replaced(self, source: TokenSource, fakes: Fakes, clock: Clock) -> None:
        source.get()
        clock.advance(900)
        fakes.broker.replace()
        assert source.get().generation == 8

    @pytest.mark.parametrize("age, requests", [(840, 2), (841, 2), (700, 2), (500, 1)])
    def test_min_ttl_is_kept(self, source: TokenSource, fakes: Fakes, clock: Clock, age: int, requests: int) -> None:
        source.get()
        clock.advance(age)
        token = source.get(min_ttl_seconds=60)
        settle(source)
        assert token.expires_at - clock.now >= 60
        assert len(fakes.broker.requests) == requests

    def test_min_ttl_is_sent_to_the_broker(self, source: TokenSource, fakes: Fakes) -> None:
        source.get(min_ttl_seconds=300)
        assert fakes.broker.requests == [{"account": "default", "min_ttl_seconds": "300"}]

    def test_a_longer_min_ttl_than_the_cached_token_has_asks_again(
        self, source: TokenSource, fakes: Fakes, clock: Clock
    ) -> None:
        source.get()
        clock.advance(10)
        assert source.get(min_ttl_seconds=895).expires_at == clock.now + 900

    def test_an_answer_that_is_too_short_is_an_error(self, source: TokenSource, fakes: Fakes) -> None:
        fakes.broker.expires_in = 20
        with pytest.raises(TokenBrokerError) as caught:
            source.get(min_ttl_seconds=30)
        assert caught.value.code == "token_expires_too_soon"
        assert len(fakes.broker.requests) == 1

    def test_a_slow_answer_that_is_now_too_short_is_not_handed_out(
        self, source: TokenSource, fakes: Fakes, clock: Clock
    ) -> None:
        fakes.broker.expires_in = 60
        delays = [30.0, 0.0]
        fakes.broker.before_answer = lambda: clock.advance(delays.pop(0))
        token = source.get(min_ttl_seconds=60)
        assert token.expires_at - clock.now >= 60
        assert len(fakes.broker.requests) == 2

    def test_a_broker_that_is_always_too_slow_is_an_error(
        self, source: TokenSource, fakes: Fakes, clock: Clock
    ) -> None:
        fakes.broker.expires_in = 60
        fakes.broker.before_answer = lambda: clock.advance(30)
        with pytest.raises(TokenBrokerError, match="token_expires_too_soon"):
            source.get(min_ttl_seconds=60)

    def test_the_longest_min_ttl_is_met_despite_a_round_trip(
        self, source: TokenSource, fakes: Fakes, clock: Clock
    ) -> None:
        fakes.broker.before_answer = lambda: clock.advance(0.2)
        assert source.get(min_ttl_seconds=900).generation == 7

    def test_short_lived_tokens_are_cached_for_half_their_life_by_default(
        self, source: TokenSource, fakes: Fakes, clock: Clock
    ) -> None:
        fakes.broker.expires_in = 8
        source.get()
        clock.advance(4)
        source.get()
        assert len(fakes.broker.requests) == 1
        clock.advance(1)
        source.get()
        assert len(fakes.broker.requests) == 2

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
    def test_starts_at_two_thirds_and_hands_out_the_old_token_meanwhile(
        self, source: TokenSource, fakes: Fakes, clock: Clock
    ) -> None:
        source.get()
        fakes.broker.replace()
        clock.advance(600)
        fakes.broker.may_answer.clear()
        assert source.get().generation == 7
        assert source.get().generation == 7
        fakes.broker.may_answer.set()
        settle(source)
        assert source.get().generation == 8
        assert len(fakes.broker.requests) == 2

    def test_that_brings_the_same_generation_extends_it(self, source: TokenSource, fakes: Fakes, clock: Clock) -> None:
        source.get()
        clock.advance(600)
        source.get()
        settle(source)
        clock.advance(599)
        assert source.get().expires_at == 1_000_000 + 600 + 900
        assert len(fakes.broker.requests) == 2

    def test_with_an_older_generation_is_repeated_after_5_seconds(
        self, source: TokenSource, fakes: Fakes, clock: Clock
    ) -> None:
        fakes.broker.replace()
        source.get()
        fakes.broker.restore()
        clock.advance(600)
        for waited, requests in [(0, 2), (4, 2), (1, 3)]:
            clock.advance(waited)
            assert source.get().generation == 8
            settle(source)
            assert len(fakes.broker.requests) == requests

    def test_failure_leaves_the_valid_token_in_use(
        self, source: TokenSource, fakes: Fakes, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        source.get()
        fakes.broker.fault = OUTAGE
        clock.advance(600)
        assert source.get().generation == 7
        settle(source)
        assert "upstream_unavailable" in caplog.text
        clock.advance(11)
        assert source.get().generation == 7
        assert len(fakes.broker.requests) == 2, "retry_after is kept"
        clock.advance(1)
        assert source.get().generation == 7
        settle(source)
        assert len(fakes.broker.requests) == 3

    def test_failure_after_expiry_is_an_error_until_the_outage_ends(
        self, source: TokenSource, fakes: Fakes, clock: Clock
    ) -> None:
        source.get()
        fakes.broker.fault = OUTAGE
        clock.advance(900)
        with pytest.raises(Unavailable) as caught:
            source.get()
        assert caught.value.retry_after == 12
        fakes.broker.fault = None
        clock.advance(12)
        assert source.get().generation == 7

    def test_retry_after_is_kept_for_up_to_10_seconds(self, source: TokenSource, fakes: Fakes, clock: Clock) -> None:
        fakes.broker.fault = OUTAGE
        for waited, left, requests in [(0, 12, 1), (4.5, 8, 1), (5, 3, 1), (0.5, 12, 2)]:
            clock.advance(waited)
            with pytest.raises(Unavailable) as caught:
                source.get()
            assert (caught.value.code, caught.value.retry_after) == ("upstream_unavailable", left)
            assert len(fakes.broker.requests) == requests

    def test_failure_without_retry_after_has_a_cooldown_that_doubles(
        self, source: TokenSource, fakes: Fakes, clock: Clock
    ) -> None:
        fakes.broker.fault = error("store_unavailable", "DynamoDB does not answer")
        for requests, cooldown in enumerate([0.25, 0.5, 1, 2, 4, 8, 10, 10], 1):
            for waited in (0, cooldown - 0.125):
                clock.advance(waited)
                with pytest.raises(Unavailable) as caught:
                    source.get()
                assert (caught.value.code, caught.value.retry_after) == ("store_unavailable", None)
                assert len(fakes.broker.requests) == requests
            clock.advance(0.125)
        fakes.broker.fault = None
        assert source.get().generation == 7
        clock.advance(900)
        fakes.broker.fault = error("store_unavailable", "DynamoDB does not answer")
        with pytest.raises(Unavailable):
            source.get()
        fakes.broker.fault = None
        clock.advance(0.25)
        assert source.get().generation == 7, "the first failure after a success"

    def test_failure_of_a_callers_options_is_not_shared(self, source: TokenSource, fakes: Fakes, clock: Clock) -> None:
        fakes.broker.may_answer.clear()
        with ThreadPoolExecutor(2) as pool:
            greedy = pool.submit(source.get, min_ttl_seconds=901)
            clock.wait_for_calls(2)  # its look-up and its request
            modest = pool.submit(source.get)
            clock.wait_for_calls(3)  # it has found the request of the greedy one
            fakes.broker.may_answer.set()
            assert modest.result().generation == 7
            with pytest.raises(InvalidRequest):
                greedy.result()

    def test_cooldown_is_as_long_as_retry_after_says(self, source: TokenSource, fakes: Fakes, clock: Clock) -> None:
        fakes.broker.fault = error("store_unavailable", "DynamoDB does not answer", 1)
        for requests in range(1, 8):
            with pytest.raises(Unavailable):
                source.get()
            assert len(fakes.broker.requests) == requests
            clock.advance(1)

    def test_failure_of_a_callers_options_is_not_kept_for_others(self, source: TokenSource) -> None:
        with pytest.raises(InvalidRequest):
            source.get(min_ttl_seconds=901)
        assert source.get().generation == 7

    def test_outage_while_less_than_min_ttl_is_left_is_an_error(
        self, source: TokenSource, fakes: Fakes, clock: Clock
    ) -> None:
        source.get()
        fakes.broker.fault = OUTAGE
        clock.advance(880)
        with pytest.raises(Unavailable):
            source.get()
        assert source.get(min_ttl_seconds=10).generation == 7

    def test_frozen_with_its_lambda_is_abandoned_after_the_thaw(
        self, source: TokenSource, fakes: Fakes, clock: Clock
    ) -> None:
        source.get()
        clock.advance(600)
        fakes.broker.may_answer.clear()
        source.get()
        frozen = source._entries["default"].request
        assert frozen is not None
        clock.advance(3600)
        fakes.broker.replace()
        renewal = threading.Thread(target=source.get)
        renewal.start()
        clock.wait_for_calls(8)  # two more than before the freeze: the caller's and the new request's
        fakes.broker.may_answer.set()
        renewal.join()
        frozen.wait()
        assert source.get().generation == 8
        assert len(fakes.broker.requests) == 3

    def test_late_answer_does_not_replace_a_newer_generation(
        self, source: TokenSource, fakes: Fakes, clock: Clock
    ) -> None:
        transport = ByHand()
        source = TokenSource(transport, clock=clock)
        late = threading.Thread(target=source.get)
        late.start()
        transport.wait_for(1)
        clock.advance(60)
        newer = threading.Thread(target=source.get)
        newer.start()
        transport.wait_for(2)
        transport.answer(1, generation=8)
        newer.join()
        transport.answer(0, generation=7)
        late.join()
        assert source.get().generation == 8

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
            clock.wait_for_calls(51)  # each caller looks at the clock once before it waits, and so does the request
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
            clock.wait_for_calls(4 + 51)
            fakes.broker.may_answer.set()
            assert {token.result().generation for token in tokens} == {8}
        assert len(fakes.broker.requests) == 2

    def test_each_caller_gets_its_own_copy_of_the_error(self, source: TokenSource, fakes: Fakes, clock: Clock) -> None:
        fakes.broker.fault = OUTAGE
        fakes.broker.may_answer.clear()
        with ThreadPoolExecutor(2) as pool:
            calls = [pool.submit(source.get) for _ in range(2)]
            clock.wait_for_calls(3)
            fakes.broker.may_answer.set()
            errors = [call.exception() for call in calls]
        assert len(fakes.broker.requests) == 1
        assert errors[0] is not errors[1]
        assert all(isinstance(caught, Unavailable) and caught.retry_after == 12 for caught in errors)

    def test_a_caller_that_needs_longer_does_not_take_a_shorter_answer(
        self, source: TokenSource, fakes: Fakes, clock: Clock
    ) -> None:
        fakes.broker.expires_in = 120
        fakes.broker.may_answer.clear()
        with ThreadPoolExecutor(2) as pool:
            short = pool.submit(source.get, "default", 10)
            clock.wait_for_calls(2)
            long = pool.submit(source.get, "default", 300)
            clock.wait_for_calls(3)
            fakes.broker.may_answer.set()
            assert short.result().generation == 7
            error = long.exception()
        assert isinstance(error, TokenBrokerError) and error.code == "token_expires_too_soon"
        assert [request.get("min_ttl_seconds") for request in fakes.broker.requests] == ["10", "300"]

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


class TestReport:
    def test_of_a_dead_token_brings_a_newer_generation(self, source: TokenSource, fakes: Fakes) -> None:
        token = source.get()
        fakes.broker.revoke()
        assert source.report(token.generation).generation == 8
        assert source.get().generation == 8
        assert fakes.broker.requests[1] == {"account": "default", "rejected_generation": "7"}

    def test_of_an_older_generation_is_answered_from_the_cache(self, source: TokenSource, fakes: Fakes) -> None:
        fakes.broker.replace()
        source.get()
        assert source.report(7).generation == 8
        assert len(fakes.broker.requests) == 1

    def test_of_a_token_that_is_alive_brings_the_same_one(self, source: TokenSource, fakes: Fakes) -> None:
        source.get()
        assert source.report(7).generation == 7

    def test_is_not_repeated_within_5_seconds(self, source: TokenSource, fakes: Fakes, clock: Clock) -> None:
        source.get()
        source.report(7)
        clock.advance(4)
        assert source.report(7).generation == 7
        assert len(fakes.broker.requests) == 2
        clock.advance(1)
        fakes.broker.revoke()
        assert source.report(7).generation == 8

    def test_during_an_outage_fails_and_keeps_the_token(self, source: TokenSource, fakes: Fakes, clock: Clock) -> None:
        source.get()
        fakes.broker.fault = OUTAGE
        with pytest.raises(Unavailable):
            source.report(7)
        assert source.report(7).generation == 7, "not reported again before retry_after"
        assert len(fakes.broker.requests) == 2
        assert source.get().generation == 7

    def test_waits_for_a_renewal_and_uses_its_newer_generation(
        self, source: TokenSource, fakes: Fakes, clock: Clock
    ) -> None:
        source.get()
        clock.advance(600)
        fakes.broker.may_answer.clear()
        source.get()
        fakes.broker.replace()
        with ThreadPoolExecutor(1) as pool:
            report = pool.submit(source.report, 7)
            clock.wait_for_calls(7)
            fakes.broker.may_answer.set()
            assert report.result().generation == 8
        assert len(fakes.broker.requests) == 2

    def test_follows_a_renewal_that_brings_the_same_generation(
        self, source: TokenSource, fakes: Fakes, clock: Clock
    ) -> None:
        source.get()
        clock.advance(600)
        fakes.broker.may_answer.clear()
        source.get()
        fakes.broker.revoke()
        with ThreadPoolExecutor(1) as pool:
            report = pool.submit(source.report, 7)
            clock.wait_for_calls(7)
            fakes.broker.may_answer.set()
            assert report.result().generation == 8
        assert "rejected_generation" not in fakes.broker.requests[1]
        assert fakes.broker.requests[2]["rejected_generation"] == "7"

    def test_an_older_token_replaces_one_that_is_too_short(
        self, source: TokenSource, fakes: Fakes, clock: Clock
    ) -> None:
        fakes.broker.replace()
        source.get()
        fakes.broker.restore()
        clock.advance(850)
        for _ in range(3):
            assert source.get().generation == 7
        assert len(fakes.broker.requests) == 2

    def test_brings_the_older_token_of_a_restored_table(self, source: TokenSource, fakes: Fakes) -> None:
        fakes.broker.replace()
        source.get()
        fakes.broker.restore()
        for _ in range(3):
            assert source.report(8).generation == 7
            assert source.get().generation == 7
        assert len(fakes.broker.requests) == 2, "reported once"

    def test_works_from_asyncio(self, source: TokenSource, fakes: Fakes) -> None:
        async def replace() -> Token:
            token = await source.get_async()
            fakes.broker.revoke()
            return await source.report_async(token.generation)

        assert asyncio.run(replace()).generation == 8


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
            {"generation": None},
            {"account": "another"},
        ],
    )
    def test_malformed_answers_are_refused(self, clock: Clock, change: Any) -> None:
        source = TokenSource(Immediate(**change), clock=clock)
        with pytest.raises(Unavailable) as caught:
            source.get()
        assert caught.value.code == "broker_unavailable"

    @pytest.mark.parametrize("answer", [None, [], ["access_token"], "access_token", 7])
    def test_answers_that_are_no_mapping_are_refused(self, clock: Clock, answer: Any) -> None:
        transport = Immediate()
        transport._answer = answer
        with pytest.raises(Unavailable) as caught:
            TokenSource(transport, clock=clock).get()
        assert caught.value.code == "broker_unavailable"


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
    """A transport whose answers the test gives, in any order."""

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
