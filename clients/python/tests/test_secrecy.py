"""Tokens appear in no text form, log line, exception, or variable of a frame that raises."""

from __future__ import annotations

import copy
import logging
import pickle
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import boto3
import httpx
import pytest
import requests
from fakes import AWS_KEYS, GUARD, Clock, Fakes, error

import token_broker.httpx
import token_broker.requests
from token_broker import Agent, HttpApi, Lambda, NotConfigured, Token, TokenBrokerError, TokenSource, Unavailable

pytestmark = [
    pytest.mark.usefixtures("loopback_without_proxy"),
    pytest.mark.filterwarnings("ignore:Boto3 will no longer support:Warning"),
]


def reveals(text: str) -> bool:
    return "token-secret" in text or GUARD in text


def frames(trace: TracebackType | None) -> Iterator[str]:
    while trace is not None:
        if "token_broker" in trace.tb_frame.f_code.co_filename:
            yield from (repr(value) for value in trace.tb_frame.f_locals.values())
        trace = trace.tb_next


def chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def everything_about(error: BaseException) -> list[str]:
    texts = traceback.format_exception(type(error), error, error.__traceback__)
    for link in chain(error):
        texts += [repr(link), str(link), repr(vars(link)), *frames(link.__traceback__)]
    return texts


def test_text_forms_of_a_token(source: TokenSource) -> None:
    token = source.get()
    assert token.authorization == "Bearer token-secret-default-7"
    for text in (repr(token), str(token), f"{token}", f"{token!r}", f"{token}", repr([token]), repr({"t": token})):
        assert "generation=7" in text and not reveals(text)


def test_text_form_of_a_token_leaves_extra_out() -> None:
    assert not reveals(repr(Token("t", 7, "default", 0, 900, {"id_token": "token-secret"})))


def test_text_forms_of_sources_transports_and_adapters(fakes: Fakes, source: TokenSource) -> None:
    source.get()
    objects: list[Any] = [
        source,
        Agent(token=GUARD),
        Lambda("token-broker:live"),
        HttpApi(fakes.url),
        token_broker.httpx.TokenBrokerAuth(source),
        token_broker.requests.TokenBrokerAuth(source),
    ]
    for value in objects:
        assert not reveals(repr(value)) and not reveals(str(value))


@pytest.mark.parametrize("secret", ["token-secret\u00e9", "token-secret\r\nX-Evil: 1"])
def test_answers_with_an_unusable_token(clock: Clock, secret: str) -> None:
    class Unusable:
        def fetch(self, *_: Any) -> Any:
            return {"access_token": secret, "expires_in": 900, "generation": 7}

    with pytest.raises(Unavailable) as caught:
        TokenSource(Unusable(), clock=clock).get()
    assert not any(map(reveals, everything_about(caught.value)))


@pytest.mark.parametrize("way", ["agent", "invoke", "http_api"])
def test_answers_that_cannot_be_decoded(fakes: Fakes, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    for name, value in AWS_KEYS.items():
        monkeypatch.setenv(name, value)
    transports: dict[str, Any] = {
        "agent": Agent(port=fakes.port, token=GUARD),
        "invoke": Lambda("token-broker", client=boto3.client("lambda", endpoint_url=fakes.url)),
        "http_api": HttpApi(f"{fakes.url}/prod"),
    }
    transport = transports[way]
    fakes.broker.raw = (200, b'{"access_token": "token-secret", "expires')
    with pytest.raises(Unavailable) as caught:
        transport.fetch("default", None, None)
    assert not any(map(reveals, everything_about(caught.value)))


@pytest.mark.parametrize("guard", [f"{GUARD}\r\n1", f"{GUARD}\u00e9"])
def test_an_unusable_guard_token(guard: str) -> None:
    with pytest.raises(NotConfigured) as caught:
        Agent(token=guard).fetch("default", None, None)
    assert not any(map(reveals, everything_about(caught.value)))


def test_an_agent_that_does_not_answer() -> None:
    with Fakes() as stopped:
        port = stopped.port
    with pytest.raises(Unavailable) as caught:
        Agent(port=port, token=GUARD).fetch("default", None, None)
    assert not any(map(reveals, everything_about(caught.value)))


def test_logs_at_their_most_verbose(
    fakes: Fakes, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for name, value in AWS_KEYS.items():
        monkeypatch.setenv(name, value)
    transports: list[Any] = [
        Agent(port=fakes.port, token=GUARD),
        Lambda("token-broker", client=boto3.client("lambda", endpoint_url=fakes.url)),
        HttpApi(f"{fakes.url}/prod"),
    ]
    for transport in transports:
        source = TokenSource(transport, clock=clock)
        with httpx.Client(auth=token_broker.httpx.TokenBrokerAuth(source)) as client:
            client.get(f"{fakes.url}/items")
            fakes.broker.revoke()
            client.get(f"{fakes.url}/items")
        requests.get(f"{fakes.url}/always-401", auth=token_broker.requests.TokenBrokerAuth(source), timeout=30)
        fakes.broker.fault = error("upstream_unavailable", "the upstream does not answer", 12)
        clock.advance(900)
        with pytest.raises(Unavailable):
            source.get()
        fakes.broker.fault = None
    assert len(caplog.records) > 20
    assert not reveals(caplog.text)


def test_exceptions_of_the_http_libraries(source: TokenSource, clock: Clock) -> None:
    source.get()
    with Fakes() as stopped:
        url = stopped.url
    with pytest.raises(httpx.ConnectError) as httpx_error:
        httpx.get(url, auth=token_broker.httpx.TokenBrokerAuth(source))
    with pytest.raises(requests.ConnectionError) as requests_error:
        requests.get(url, auth=token_broker.requests.TokenBrokerAuth(source), timeout=30)
    for caught in (httpx_error.value, requests_error.value):
        assert not any(reveals(str(link)) or reveals(repr(link)) for link in chain(caught))


def test_an_error_survives_copy_and_pickle() -> None:
    original = TokenBrokerError.of("upstream_rate_limited", "wait", 60, "request-1")
    for copied in (copy.copy(original), pickle.loads(pickle.dumps(original))):
        assert type(copied) is Unavailable
        assert vars(copied) == vars(original)
        assert str(copied) == "upstream_rate_limited: wait (retry_after=60)"
