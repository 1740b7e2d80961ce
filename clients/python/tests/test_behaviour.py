"""Runs the cases of `crates/contract/behaviour.json`, which defines how every client behaves."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Callable

import httpx
import pytest
import requests
from fakes import GUARD, Fakes

import token_broker.httpx
import token_broker.requests
from token_broker import Agent, Token, TokenBrokerError, TokenSource
from token_broker._cache import Demand
from token_broker._source import _Account, _Call
from token_broker._transports import _service_and_region

CASES = json.loads((Path(__file__).parents[3] / "crates/contract/behaviour.json").read_text())
Step = dict[str, Any]


class Caller:
    """One `get` or `report`. The test does what a thread or a task would do, so that nothing takes time."""

    def __init__(self, run: Run, step: Step, rejected: int | None) -> None:
        demand = Demand(step.get("min_ttl_seconds"), rejected)
        self._steps = run.source._obtain(step.get("account", "default"), demand)
        self.outcome: Token | TokenBrokerError | None = None
        self._advance(lambda: next(self._steps))

    def _advance(self, step: Callable[[], _Call]) -> None:
        try:
            self._call = step()
        except StopIteration as stop:
            self.outcome = stop.value
        except TokenBrokerError as error:
            self.outcome = error

    def resume(self, waited: float) -> None:
        if self.outcome is None and (waited or self._call.outcome.done()):
            self._advance(lambda: self._steps.send(waited))


class Run:
    def __init__(self) -> None:
        self.passed = self.stepped = self.draw = 0.0
        self.calls: list[tuple[str, _Account, _Call]] = []
        self.expected_calls = 0
        self.callers: dict[str, Caller] = {}
        self.source = TokenSource(self, clock=lambda: 1_000_000 + self.passed + self.stepped, random=lambda: self.draw)
        self.source._start = self._start  # type: ignore[method-assign]

    def _start(self, account: str, entry: _Account, call: _Call) -> None:
        self.calls.append((account, entry, call))

    def fetch(self, *_: object) -> Any:
        """The transport: returns the answer of the current step."""
        if "error" in self.answer:
            raise TokenBrokerError.of(self.answer["error"], "as the case says", self.answer.get("retry_after"))
        expires_in, generation = self.answer.get("expires_in", 900), self.answer.get("generation", 1)
        return {"access_token": "token-secret", "expires_in": expires_in, "generation": generation}

    def step(self, step: Step) -> None:
        if not {"call", "result"} & step.keys():
            assert self.expected_calls == len(self.calls), "no step expects the last call"
        if "at" in step:
            while self.passed < step["at"]:
                waited = min(1, step["at"] - self.passed)
                self.passed += waited
                self._resume(waited)
        elif "clock" in step:
            self.stepped += step["clock"]
        elif "draw" in step:
            self.draw = step["draw"]
        elif "get" in step:
            self.callers[step["get"]] = Caller(self, step, None)
        elif "report" in step:
            self.callers[step["as"]] = Caller(self, step, step["report"])
        elif "call" in step:
            self._expect_call(step)
        elif "answer" in step:
            self._answer(step["answer"], step)
        elif "result" in step:
            self._expect_result(step)
        else:
            for number in range(step["accounts"]):
                Caller(self, {"account": f"other-{number}"}, None)
                self.expected_calls += 1
                self._answer(len(self.calls), step)

    def _answer(self, number: int, answer: Step) -> None:
        self.answer = answer
        self.source._perform(*self.calls[number - 1])
        self._resume()

    def _resume(self, waited: float = 0) -> None:
        for caller in self.callers.values():
            caller.resume(waited)

    def _expect_call(self, step: Step) -> None:
        self.expected_calls += 1
        assert self.expected_calls == step["call"] <= len(self.calls), "no call has begun"
        account, _, call = self.calls[step["call"] - 1]
        expected = Demand(step.get("min_ttl_seconds"), step.get("rejected_generation"))
        assert (account, call.demand) == (step.get("account", "default"), expected)

    def _expect_result(self, step: Step) -> None:
        outcome = self.callers[step["result"]].outcome
        seen: Step = {"result": step["result"]}
        if outcome is None:
            seen["waiting"] = True
        elif isinstance(outcome, Token):
            seen["generation"] = outcome.generation
        else:
            seen["error"] = outcome.code
            if outcome.retry_after is not None:
                seen["retry_after"] = math.ceil(outcome.retry_after)
        assert seen == step


@pytest.mark.parametrize("case", CASES["sources"], ids=lambda case: case["rule"])
def test_of_a_source_is_that_of_every_client(case: Step) -> None:
    run = Run()
    for step in [*case["steps"], {"draw": 0}]:
        __tracebackhide__ = True
        try:
            run.step(step)
        except AssertionError as error:
            raise AssertionError(f"{case['rule']}: {step}: {error}") from error


class Listed:
    """The broker and the API of one case."""

    def __init__(self, case: Step) -> None:
        self.broker, self.api = iter(case["broker"]), iter(case["api"])
        self.reported: list[int] = []
        self.sent: list[int] = []

    def fetch(self, account: str, min_ttl: int | None, rejected: int | None) -> Any:
        if rejected is not None:
            self.reported.append(rejected)
        answer = next(self.broker)
        if "error" in answer:
            raise TokenBrokerError.of(answer["error"], "as the case says")
        return {"access_token": f"t{answer['generation']}", "expires_in": 900, **answer}

    def respond(self, authorization: str) -> int:
        self.sent.append(int(authorization[len("Bearer t") :]))
        status: int = next(self.api)
        return status


def with_httpx(listed: Listed, source: TokenSource) -> int:
    transport = httpx.MockTransport(lambda request: httpx.Response(listed.respond(request.headers["Authorization"])))
    with httpx.Client(auth=token_broker.httpx.TokenBrokerAuth(source), transport=transport) as client:
        return client.post("https://platform-api.convirza.com/v3/x", content="text").status_code


class Adapter(requests.adapters.BaseAdapter):
    def __init__(self, listed: Listed) -> None:
        super().__init__()
        self._listed = listed

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        response = requests.Response()
        response.status_code = self._listed.respond(request.headers["Authorization"])
        response.request, response.url, response._content = request, request.url or "", b""
        response.connection = self  # type: ignore[assignment]
        return response

    def close(self) -> None:
        pass


def with_requests(listed: Listed, source: TokenSource) -> int:
    with requests.Session() as session:
        session.mount("https://", Adapter(listed))
        session.auth = token_broker.requests.TokenBrokerAuth(source)
        return session.post("https://platform-api.convirza.com/v3/x", data="text").status_code


@pytest.mark.parametrize("send", [with_httpx, with_requests])
@pytest.mark.parametrize("case", CASES["requests"], ids=lambda case: case["rule"])
def test_of_a_request_is_that_of_every_client(case: Step, send: Any) -> None:
    listed = Listed(case)
    try:
        assert send(listed, TokenSource(listed)) == case["api"][-1]
    except TokenBrokerError as error:
        assert error.code == case["error"]
    assert (listed.sent, listed.reported) == (case["sent"], case["reported"])


@pytest.mark.parametrize("case", CASES["answers"], ids=lambda case: case["of"])
def test_of_an_answer_is_that_of_every_client(fakes: Fakes, case: Step) -> None:
    fakes.broker.raw = (case["status"], (case["body"] * case.get("times", 1)).encode())
    with pytest.raises(TokenBrokerError) as caught:
        TokenSource(Agent(port=fakes.port, token=GUARD)).get(min_ttl_seconds=case.get("min_ttl_seconds"))
    # No case states a time or an id that can be used.
    error = caught.value
    assert (error.code, error.retry_after, error.request_id) == (case["code"], None, None)


@pytest.mark.parametrize("case", CASES["hosts"], ids=lambda case: case["host"])
def test_of_a_host_is_that_of_every_client(case: Step) -> None:
    assert _service_and_region(case["host"]) == (case["service"], case["region"])
