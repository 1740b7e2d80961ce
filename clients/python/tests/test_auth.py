"""`TokenBrokerAuth` of httpx (synchronous, asyncio, trio) and of requests: one rule, four clients."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from typing import Any, Callable

import httpx
import pytest
import requests
import trio
from fakes import GUARD, Clock, Fakes, error

import token_broker.httpx
import token_broker.requests
from token_broker import Agent, NotConfigured, TokenSource, Unavailable

pytestmark = pytest.mark.usefixtures("loopback_without_proxy")

#: Sends one POST and returns the status. `body` is bytes, or an iterator that can be read once.
Send = Callable[..., int]


def with_httpx(source: TokenSource, url: str, body: Any = b"", **options: Any) -> int:
    with httpx.Client(auth=token_broker.httpx.TokenBrokerAuth(source, **options), follow_redirects=True) as client:
        return client.post(url, content=body).status_code


async def _with_async_httpx(source: TokenSource, url: str, body: Any, options: dict[str, Any]) -> int:
    async def chunks() -> AsyncIterator[bytes]:
        for chunk in body:
            yield chunk

    auth = token_broker.httpx.TokenBrokerAuth(source, **options)
    async with httpx.AsyncClient(auth=auth, follow_redirects=True) as client:
        content = body if isinstance(body, bytes) else chunks()
        return (await client.post(url, content=content)).status_code


def with_asyncio(source: TokenSource, url: str, body: Any = b"", **options: Any) -> int:
    return asyncio.run(_with_async_httpx(source, url, body, options))


def with_trio(source: TokenSource, url: str, body: Any = b"", **options: Any) -> int:
    return trio.run(_with_async_httpx, source, url, body, options)


def with_requests(source: TokenSource, url: str, body: Any = b"", **options: Any) -> int:
    with requests.Session() as session:
        session.auth = token_broker.requests.TokenBrokerAuth(source, **options)
        return session.post(url, data=body).status_code


@pytest.fixture(params=[with_httpx, with_asyncio, with_trio, with_requests])
def send(request: pytest.FixtureRequest) -> Send:
    chosen: Send = request.param
    return chosen


def tokens(fakes: Fakes) -> list[tuple[str, Any]]:
    return [(path, token) for path, _, token in fakes.api_requests]


class TestEveryClient:
    def test_adds_the_token(self, send: Send, source: TokenSource, fakes: Fakes) -> None:
        assert send(source, f"{fakes.url}/items", b"body") == 200
        assert fakes.api_requests == [("/items", b"body", "token-secret-default-7")]

    def test_replaces_a_dead_token_once(self, send: Send, source: TokenSource, fakes: Fakes) -> None:
        source.get()
        fakes.broker.revoke()
        assert send(source, f"{fakes.url}/items", b"body") == 200
        assert fakes.api_requests == [
            ("/items", b"body", "token-secret-default-7"),
            ("/items", b"body", "token-secret-default-8"),
        ]
        assert len(fakes.broker.requests) == 2

    def test_uses_its_options_for_the_report_too(self, send: Send, source: TokenSource, fakes: Fakes) -> None:
        fakes.broker.dead.add(fakes.broker.token("emea"))
        assert send(source, f"{fakes.url}/items", account="emea", min_ttl_seconds=90) == 200
        asked = {"account": "emea", "min_ttl_seconds": "90"}
        assert fakes.broker.requests == [asked, {**asked, "rejected_generation": "7"}]

    def test_does_not_retry_without_a_newer_generation(self, send: Send, source: TokenSource, fakes: Fakes) -> None:
        for _ in range(3):
            assert send(source, f"{fakes.url}/always-401", b"body") == 401
        assert len(fakes.api_requests) == 3
        assert len(fakes.broker.requests) == 2, "one token, one report"

    def test_does_not_retry_twice(self, send: Send, source: TokenSource, fakes: Fakes) -> None:
        source.get()
        fakes.broker.revoke()
        assert send(source, f"{fakes.url}/always-401", b"body") == 401
        assert len(fakes.api_requests) == 2
        assert len(fakes.broker.requests) == 2

    def test_reports_but_does_not_resend_a_streamed_body(self, send: Send, source: TokenSource, fakes: Fakes) -> None:
        source.get()
        fakes.broker.revoke()
        assert send(source, f"{fakes.url}/items", iter([b"a", b"b"])) == 401
        assert [body for _, body, _ in fakes.api_requests] == [b"ab"]
        assert source.get().generation == 8, "the next request has a live token"

    def test_returns_the_401_if_the_report_fails(
        self, send: Send, source: TokenSource, fakes: Fakes, caplog: pytest.LogCaptureFixture
    ) -> None:
        source.get()
        fakes.broker.revoke()
        fakes.broker.fault = error("upstream_unavailable", "the upstream does not answer", 12)
        assert send(source, f"{fakes.url}/items", b"body") == 401
        assert "the report failed: upstream_unavailable" in caplog.text
        assert [record.name for record in caplog.records] == ["token_broker"]

    def test_raises_if_there_is_no_token(self, send: Send, source: TokenSource, fakes: Fakes) -> None:
        fakes.broker.fault = error("login_budget_exhausted", "no login is free", 30)
        with pytest.raises(Unavailable) as caught:
            send(source, f"{fakes.url}/items", b"body")
        assert caught.value.retry_after == 30
        assert fakes.api_requests == []

    def test_does_not_repeat_a_post_from_before_a_redirect(self, send: Send, source: TokenSource, fakes: Fakes) -> None:
        # requests repeats only the redirected GET; the others would start with the POST.
        assert send(source, f"{fakes.url}/effect", b"body") == (200 if send is with_requests else 401)
        assert [path for path, _, _ in fakes.api_requests].count("/effect") == 1
        assert source.get().generation == 8, "the token was reported"

    def test_does_not_report_the_401_of_another_host(self, send: Send, source: TokenSource, fakes: Fakes) -> None:
        assert send(source, f"{fakes.url}/elsewhere", b"body") == 401
        assert tokens(fakes) == [("/elsewhere", "token-secret-default-7"), ("/items", None)]
        assert len(fakes.broker.requests) == 1


class TestApiUrl:
    @pytest.mark.parametrize(
        "api_url", ["", "127.0.0.1", "platform-api.convirza.com", "localhost:80", "ftp://x", "https://", "https://x:y"]
    )
    @pytest.mark.parametrize("auth", [token_broker.httpx.TokenBrokerAuth, token_broker.requests.TokenBrokerAuth])
    def test_must_be_a_url(self, source: TokenSource, auth: Any, api_url: str) -> None:
        with pytest.raises(NotConfigured, match="api_url"):
            auth(source, api_url=api_url)

    @pytest.mark.parametrize(
        "api_url, url, has_token",
        [
            ("https://x.example", "https://X.example:443/items", True),
            ("http://x.example:80", "http://x.example/items", True),
            ("https://x.example", "http://x.example:443/items", False),
            ("https://x.example", "https://x.example:8443/items", False),
            ("https://x.example", "https://y.example/items", False),
        ],
    )
    def test_names_a_scheme_a_host_and_a_port(
        self, source: TokenSource, api_url: str, url: str, has_token: bool
    ) -> None:
        auth = token_broker.requests.TokenBrokerAuth(source, api_url=api_url)
        assert ("Authorization" in requests.Request("GET", url, auth=auth).prepare().headers) == has_token

    @pytest.mark.parametrize("token", ["token-secret-default-7", None])
    def test_limits_httpx_to_one_origin(self, source: TokenSource, fakes: Fakes, token: str | None) -> None:
        api_url = f"{fakes.url}/v3" if token else "http://127.0.0.1/v3"
        auth = token_broker.httpx.TokenBrokerAuth(source, api_url=api_url)
        with httpx.Client(auth=auth) as client:
            client.get(f"{fakes.url}/items")
        assert tokens(fakes) == [("/items", token)]

    def test_limits_asyncio_to_one_origin(self, source: TokenSource, fakes: Fakes) -> None:
        async def get() -> int:
            auth = token_broker.httpx.TokenBrokerAuth(source, api_url="https://127.0.0.1")
            async with httpx.AsyncClient(auth=auth) as client:
                return (await client.get(f"{fakes.url}/items")).status_code

        assert asyncio.run(get()) == 401
        assert fakes.broker.requests == []

    @pytest.mark.parametrize("token", ["token-secret-default-7", None])
    def test_limits_requests_to_one_origin(self, source: TokenSource, fakes: Fakes, token: str | None) -> None:
        api_url = f"{fakes.url}/v3" if token else "http://127.0.0.1/v3"
        auth = token_broker.requests.TokenBrokerAuth(source, api_url=api_url)
        requests.get(f"{fakes.url}/items", auth=auth, timeout=30)
        assert tokens(fakes) == [("/items", token)]


class TestHttpx:
    @pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
    def test_resends_what_has_no_effect_after_a_redirect(self, source: TokenSource, fakes: Fakes, method: str) -> None:
        auth = token_broker.httpx.TokenBrokerAuth(source)
        with httpx.Client(auth=auth, follow_redirects=True) as client:
            assert client.request(method, f"{fakes.url}/effect").status_code == 200

    @pytest.mark.parametrize("body", [{"json": {"a": 1}}, {"data": {"a": "1"}}, {"content": "text"}, {}])
    def test_resends_what_is_in_memory(self, source: TokenSource, fakes: Fakes, body: dict[str, Any]) -> None:
        source.get()
        fakes.broker.revoke()
        with httpx.Client(auth=token_broker.httpx.TokenBrokerAuth(source)) as client:
            assert client.post(f"{fakes.url}/items", **body).status_code == 200
        assert fakes.api_requests[0][1] == fakes.api_requests[1][1]

    def test_does_not_resend_an_uploaded_file(self, source: TokenSource, fakes: Fakes) -> None:
        source.get()
        fakes.broker.revoke()
        with httpx.Client(auth=token_broker.httpx.TokenBrokerAuth(source)) as client:
            assert client.post(f"{fakes.url}/items", files={"file": io.BytesIO(b"content")}).status_code == 401

    def test_fifty_tasks_share_one_report(self, source: TokenSource, fakes: Fakes) -> None:
        async def all_at_once() -> list[int]:
            auth = token_broker.httpx.TokenBrokerAuth(source)
            async with httpx.AsyncClient(auth=auth) as client:
                responses = await asyncio.gather(*(client.get(f"{fakes.url}/items") for _ in range(50)))
                return [response.status_code for response in responses]

        source.get()
        fakes.broker.revoke()
        assert asyncio.run(all_at_once()) == [200] * 50
        assert len(fakes.broker.requests) == 2

    def test_without_a_source_asks_the_agent(self, fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TOKEN_BROKER_PORT", str(fakes.port))
        monkeypatch.setenv("TOKEN_BROKER_TOKEN", GUARD)
        with httpx.Client(auth=token_broker.httpx.TokenBrokerAuth()) as client:
            assert client.get(f"{fakes.url}/items").status_code == 200


class TestRequests:
    def test_rewinds_a_file(self, source: TokenSource, fakes: Fakes) -> None:
        source.get()
        fakes.broker.revoke()
        file = io.BytesIO(b"skipped content")
        file.seek(8)
        assert with_requests(source, f"{fakes.url}/items", file) == 200
        assert [body for _, body, _ in fakes.api_requests] == [b"content", b"content"]

    def test_does_not_rewind_a_closed_file(self, source: TokenSource, fakes: Fakes) -> None:
        source.get()
        fakes.broker.revoke()
        file = io.BytesIO(b"content")
        fakes.broker.before_answer = file.close
        assert with_requests(source, f"{fakes.url}/items", file) == 401

    @pytest.mark.parametrize("body", [{"json": {"a": 1}}, {"data": {"a": "1"}}, {"files": {"f": b"content"}}, {}])
    def test_resends_what_is_in_memory(self, source: TokenSource, fakes: Fakes, body: dict[str, Any]) -> None:
        source.get()
        fakes.broker.revoke()
        auth = token_broker.requests.TokenBrokerAuth(source)
        response = requests.post(f"{fakes.url}/items", auth=auth, timeout=30, **body)
        assert response.status_code == 200
        assert [earlier.status_code for earlier in response.history] == [401]
        assert fakes.api_requests[0][1] == fakes.api_requests[1][1]

    def test_a_streamed_response_can_be_read_after_the_retry(self, source: TokenSource, fakes: Fakes) -> None:
        source.get()
        fakes.broker.revoke()
        auth = token_broker.requests.TokenBrokerAuth(source)
        with requests.get(f"{fakes.url}/items", auth=auth, stream=True, timeout=30) as response:
            assert b"".join(response.iter_content()) == b'{"path": "/items"}'


def test_an_expired_token_is_renewed_before_the_request(source: TokenSource, fakes: Fakes, clock: Clock) -> None:
    assert with_httpx(source, f"{fakes.url}/items") == 200
    clock.advance(900)
    fakes.broker.replace()
    assert with_httpx(source, f"{fakes.url}/items") == 200
    assert [token for _, _, token in fakes.api_requests] == ["token-secret-default-7", "token-secret-default-8"]


def test_the_agents_own_port_is_not_reached_through_a_proxy(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_PROXY")
    assert TokenSource(Agent(port=fakes.port, token=GUARD)).get().generation == 7
