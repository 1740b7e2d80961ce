"""The three ways to the broker, over real HTTP, with boto3 and botocore."""

from __future__ import annotations

import builtins
import json
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable

import boto3
import botocore.httpsession
import botocore.session
import pytest
from botocore.config import Config
from fakes import AWS_KEYS, GUARD, Clock, Fakes, error

from token_broker import (
    AccessDenied,
    Agent,
    CredentialsRejected,
    HttpApi,
    InvalidRequest,
    Lambda,
    NotConfigured,
    TokenBrokerError,
    TokenSource,
    Transport,
    Unavailable,
    UnknownAccount,
)

pytestmark = pytest.mark.filterwarnings("ignore:Boto3 will no longer support:Warning")


@pytest.fixture
def aws_keys(monkeypatch: pytest.MonkeyPatch, loopback_without_proxy: None) -> None:
    for name, value in AWS_KEYS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def invoke(fakes: Fakes, aws_keys: None) -> Lambda:
    config = Config(retries={"total_max_attempts": 1})
    return Lambda("token-broker:live", client=boto3.client("lambda", endpoint_url=fakes.url, config=config))


@pytest.fixture
def http_api(fakes: Fakes, aws_keys: None) -> HttpApi:
    return HttpApi(f"{fakes.url}/prod")


@pytest.fixture(params=["agent", "invoke", "http_api"])
def transport(request: pytest.FixtureRequest, fakes: Fakes) -> Transport:
    if request.param == "agent":
        return Agent(port=fakes.port, token=GUARD)
    chosen: Transport = request.getfixturevalue(request.param)
    return chosen


class TestEveryTransport:
    def test_gets_a_token(self, transport: Transport, fakes: Fakes) -> None:
        token = TokenSource(transport).get("emea", min_ttl_seconds=120)
        assert token.access_token == "token-secret-emea-7"
        (fields,) = fakes.broker.requests
        assert {name: str(value) for name, value in fields.items()} == {"account": "emea", "min_ttl_seconds": "120"}

    def test_reports_a_generation(self, transport: Transport, fakes: Fakes) -> None:
        source = TokenSource(transport)
        source.get()
        fakes.broker.revoke()
        assert source.report(7).generation == 8

    def test_reports_a_large_generation(self, transport: Transport, fakes: Fakes) -> None:
        fakes.broker._generations["default"] = 1_775_478_896_123
        source = TokenSource(transport)
        source.get()
        fakes.broker.revoke()
        assert source.report(1_775_478_896_123).generation == 1_775_478_896_124

    @pytest.mark.parametrize(
        "code, kind, retry_after",
        [
            ("access_denied", AccessDenied, None),
            ("unknown_account", UnknownAccount, None),
            ("credentials_rejected", CredentialsRejected, None),
            ("bad_secret", CredentialsRejected, None),
            ("grant_lost", CredentialsRejected, None),
            ("login_budget_exhausted", Unavailable, 12),
            ("upstream_rate_limited", Unavailable, 3600),
            ("upstream_unavailable", Unavailable, 2),
            ("refresh_in_progress", Unavailable, 1),
            ("store_unavailable", Unavailable, None),
            ("secret_unavailable", Unavailable, None),
            ("internal", TokenBrokerError, None),
            ("a_code_of_a_later_version", TokenBrokerError, 5),
        ],
    )
    def test_passes_errors_on(
        self, transport: Transport, fakes: Fakes, code: str, kind: type, retry_after: int | None
    ) -> None:
        fakes.broker.fault = error(code, "what happened", retry_after)
        with pytest.raises(TokenBrokerError) as caught:
            TokenSource(transport).get()
        assert type(caught.value) is kind
        assert (caught.value.code, caught.value.description) == (code, "what happened")
        assert caught.value.retry_after == retry_after

    def test_passes_the_limit_of_min_ttl_on(self, transport: Transport) -> None:
        with pytest.raises(InvalidRequest, match="at most 900"):
            TokenSource(transport).get(min_ttl_seconds=901)

    @pytest.mark.parametrize("make", [Agent, Lambda, HttpApi])
    def test_gives_up_after_the_timeout(
        self, fakes: Fakes, aws_keys: None, monkeypatch: pytest.MonkeyPatch, make: Callable[..., Transport]
    ) -> None:
        monkeypatch.setenv("TOKEN_BROKER_PORT", str(fakes.port))
        monkeypatch.setenv("TOKEN_BROKER_TOKEN", GUARD)
        monkeypatch.setenv("TOKEN_BROKER_FUNCTION", "token-broker:live")
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", fakes.url)
        monkeypatch.setenv("TOKEN_BROKER_URL", f"{fakes.url}/prod")
        fakes.broker.may_answer.clear()
        with pytest.raises(Unavailable, match="imeout"):
            TokenSource(make(timeout=0.01)).get()

    @pytest.mark.parametrize(
        "given, default, text",
        [
            (Agent(port=1), Agent(), "Agent(port={})"),
            (Lambda("1"), Lambda(), "Lambda('{}')"),
            (HttpApi("1"), HttpApi(), "HttpApi('{}')"),
        ],
    )
    def test_shows_the_destination_that_it_uses(
        self, monkeypatch: pytest.MonkeyPatch, given: Transport, default: Transport, text: str
    ) -> None:
        for name in ("PORT", "FUNCTION", "URL"):
            monkeypatch.setenv(f"TOKEN_BROKER_{name}", "2")
        assert (repr(given), repr(default)) == (text.format(1), text.format(2))

    @pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"\xff", b'{"access_token": "token-secret'])
    @pytest.mark.parametrize("status", [200, 404, 502])
    def test_turns_unexpected_responses_into_errors(
        self, transport: Transport, fakes: Fakes, status: int, body: bytes
    ) -> None:
        raws: list[tuple[Any, ...]] = [(status, body), (status, body, {})]
        for raw in raws:
            fakes.broker.raw = raw
            with pytest.raises(Unavailable) as caught:
                TokenSource(transport).get()
            assert caught.value.code == "broker_unavailable"


class TestClientField:
    @pytest.fixture(params=["invoke", "http_api"])
    def direct(self, request: pytest.FixtureRequest) -> Transport:
        chosen: Transport = request.getfixturevalue(request.param)
        return chosen

    @pytest.mark.parametrize(
        "variables, name",
        [
            ({"TOKEN_BROKER_CLIENT": "billing", "AWS_LAMBDA_FUNCTION_NAME": "f"}, "billing"),
            ({"TOKEN_BROKER_CLIENT": "", "AWS_LAMBDA_FUNCTION_NAME": "f"}, "f"),
            ({}, None),
        ],
    )
    def test_names_the_caller(
        self,
        direct: Transport,
        fakes: Fakes,
        monkeypatch: pytest.MonkeyPatch,
        variables: dict[str, str],
        name: str | None,
    ) -> None:
        for variable, value in variables.items():
            monkeypatch.setenv(variable, value)
        TokenSource(direct).get()
        assert [request.get("client") for request in fakes.broker.requests] == [name]

    def test_is_not_sent_again_once_refused(
        self, direct: Transport, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fakes.broker.knows_client = False
        monkeypatch.setenv("TOKEN_BROKER_CLIENT", "billing")
        source = TokenSource(direct)
        assert (source.get().generation, source.get("emea").generation) == (7, 7)
        assert ["client" in request for request in fakes.broker.requests] == [True, False, False]

    def test_is_sent_again_after_another_refusal(
        self, direct: Transport, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TOKEN_BROKER_CLIENT", "billing")
        source = TokenSource(direct)
        with pytest.raises(InvalidRequest):
            source.get(min_ttl_seconds=901)
        source.get()
        assert ["client" in request for request in fakes.broker.requests] == [True, True]

    def test_is_not_sent_to_the_agent(self, source: TokenSource, fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TOKEN_BROKER_CLIENT", "billing")
        source.get()
        assert fakes.broker.requests == [{"account": "default"}]


class TestCodes:
    @pytest.mark.parametrize("value", ["9" * 5000, "9" * 10, "-1", "soon", "\u00b2"])
    def test_is_not_hidden_by_a_malformed_time_to_wait(self, fakes: Fakes, value: str) -> None:
        from token_broker._transports import _read, _read_invocation

        for answer in (
            _read(503, {"Retry-After": value}, b'{"error": "store_unavailable"}'),
            _read(503, {}, b'{"error": "store_unavailable", "retry_after": "%s"}' % value.encode()),
            _read_invocation(
                True, b'{"errorType": "store_unavailable", "errorMessage": " (retry_after=%s)"}' % value.encode()
            ),
        ):
            assert isinstance(answer, TokenBrokerError)
            assert (answer.code, answer.retry_after) == ("store_unavailable", None)

    def test_has_a_time_to_wait_only_at_the_end_of_a_message(self, fakes: Fakes, invoke: Lambda) -> None:
        message = "the upstream said (retry_after=5) and no more"
        fakes.broker.raw = (200, {"errorType": "upstream_unavailable", "errorMessage": message})
        with pytest.raises(Unavailable) as caught:
            TokenSource(invoke).get()
        assert (caught.value.description, caught.value.retry_after) == (message, None)

    def test_may_come_without_a_message(self, fakes: Fakes, invoke: Lambda) -> None:
        fakes.broker.raw = (200, {"errorType": "internal"})
        with pytest.raises(TokenBrokerError) as caught:
            TokenSource(invoke).get()
        assert (caught.value.code, caught.value.description) == ("internal", "")

    @pytest.mark.parametrize("given, expected", [(0, 0), (999_999_999, 999_999_999), (10**9, None), (-1, None)])
    def test_has_a_time_to_wait_of_seconds(
        self, fakes: Fakes, source: TokenSource, given: int, expected: int | None
    ) -> None:
        fakes.broker.raw = (503, json.dumps(error("store_unavailable", "d", given)).encode())
        with pytest.raises(Unavailable) as caught:
            source.get()
        assert (caught.value.code, caught.value.retry_after) == ("store_unavailable", expected)

    def test_may_have_the_time_to_wait_in_the_header_only(self, fakes: Fakes, source: TokenSource) -> None:
        fakes.broker.raw = (503, {"error": "store_unavailable"}, {"Retry-After": "12"})
        with pytest.raises(Unavailable) as caught:
            source.get()
        assert (caught.value.description, caught.value.retry_after) == ("", 12)
        fakes.broker.raw = (503, b"busy", {"Retry-After": "999999999"})
        with pytest.raises(Unavailable) as caught:
            source.get("emea")
        assert (caught.value.code, caught.value.retry_after) == ("broker_unavailable", 999_999_999)


class TestAgent:
    @pytest.mark.parametrize(
        "variables",
        [
            {"TOKEN_BROKER_TOKEN": GUARD, "AWS_SESSION_TOKEN": "wrong"},
            {"AWS_SESSION_TOKEN": GUARD, "AWS_CONTAINER_AUTHORIZATION_TOKEN": "wrong"},
            {"TOKEN_BROKER_TOKEN": "", "AWS_CONTAINER_AUTHORIZATION_TOKEN": GUARD},
            {"TOKEN_BROKER_TOKEN": f" {GUARD}\r\n"},
        ],
    )
    def test_finds_the_guard_token(
        self, fakes: Fakes, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
    ) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("TOKEN_BROKER_PORT", str(fakes.port))
        assert TokenSource().get().generation == 7

    def test_reads_the_guard_token_from_a_file_each_time(
        self, fakes: Fakes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clock: Clock
    ) -> None:
        file = tmp_path / "guard"
        file.write_text("old", encoding="ascii")
        monkeypatch.setenv("TOKEN_BROKER_TOKEN", f"file://{file}")
        source = TokenSource(Agent(port=fakes.port), clock=clock)
        with pytest.raises(AccessDenied):
            source.get()
        file.write_text(GUARD + "\n", encoding="ascii")
        clock.advance(0.25)
        assert source.get().generation == 7

    def test_sends_the_guard_token_in_a_header_only(self, fakes: Fakes, source: TokenSource) -> None:
        source.get()
        (headers,) = fakes.broker_headers
        assert headers["X-Token-Broker-Token"] == GUARD

    @pytest.mark.parametrize("token", [None, "file:///does/not/exist", "two\r\nlines", "two words", "caf\u00e9"])
    def test_says_what_is_wrong_with_the_guard_token(self, token: str | None) -> None:
        with pytest.raises(NotConfigured, match="guard token"):
            TokenSource(Agent(token=token)).get()

    @pytest.mark.parametrize("port", ["http", "0", "65536", "-1"])
    def test_says_what_is_wrong_with_the_port(self, monkeypatch: pytest.MonkeyPatch, port: str) -> None:
        monkeypatch.setenv("TOKEN_BROKER_PORT", port)
        with pytest.raises(NotConfigured, match="TOKEN_BROKER_PORT"):
            TokenSource(Agent(token=GUARD)).get()

    def test_ignores_the_port_that_kubernetes_sets(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TOKEN_BROKER_PORT", "tcp://10.0.0.1:80")
        assert repr(Agent()) == "Agent(port=2774)"

    def test_that_does_not_run_is_unavailable(self) -> None:
        with Fakes() as stopped:
            port = stopped.port
        with pytest.raises(Unavailable, match=f"127.0.0.1:{port} does not answer: ConnectionRefusedError"):
            TokenSource(Agent(port=port, token=GUARD)).get()

    @pytest.mark.parametrize("excess", [0, 1])
    def test_takes_an_answer_of_1_mib_and_no_more(self, source: TokenSource, fakes: Fakes, excess: int) -> None:
        start = b'{"access_token": "token-secret", "expires_in": 900, "generation": 7, "extra": {"x": "'
        fakes.broker.raw = (200, start.ljust(1_048_573 + excess, b"x") + b'"}}')
        if excess:
            with pytest.raises(Unavailable):
                source.get()
        else:
            assert source.get().generation == 7

    def test_needs_no_package(self) -> None:
        # A new interpreter: this one has imported the packages already.
        code = (
            "import sys, token_broker; print({'boto3', 'botocore', 'httpx', 'requests'} & sys.modules.keys() or 'none')"
        )
        printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert printed.stdout.strip() == "none"


class TestLambda:
    def test_creates_its_own_client(self, fakes: Fakes, aws_keys: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", fakes.url)
        monkeypatch.setenv("TOKEN_BROKER_FUNCTION", "token-broker:live")
        assert TokenSource(Lambda()).get().generation == 7

    def test_creates_its_client_for_the_region_of_the_arn(
        self, fakes: Fakes, aws_keys: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", fakes.url)
        TokenSource(Lambda("arn:aws:lambda:ap-south-1:123456789012:function:token-broker:live")).get()
        monkeypatch.delenv("AWS_DEFAULT_REGION")
        TokenSource(Lambda("arn:aws-cn:lambda:cn-north-1:123456789012:function:token-broker")).get()
        scopes = [headers["Authorization"].split("/")[2] for headers in fakes.broker_headers]
        assert scopes == ["ap-south-1", "cn-north-1"]

    def test_creates_its_client_beside_threads_that_create_others(
        self, fakes: Fakes, aws_keys: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", fakes.url)
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
        source = TokenSource(Lambda("token-broker:live"))
        with ThreadPoolExecutor(4) as pool:
            tokens = list(pool.map(source.get, [f"account-{number}" for number in range(4)]))
        assert {token.generation for token in tokens} == {7}
        assert boto3.DEFAULT_SESSION is None, "which is not thread-safe"

    def test_repeats_a_request_once_after_a_fault_of_aws(
        self, fakes: Fakes, aws_keys: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", fakes.url)
        monkeypatch.setattr("botocore.endpoint.time.sleep", lambda seconds: None)
        fakes.broker.raw = (500, b"{}", {})
        with pytest.raises(Unavailable):
            TokenSource(Lambda("token-broker:live")).get()
        assert len(fakes.broker_headers) == 2

    def test_reports_a_missing_permission(self, fakes: Fakes, invoke: Lambda) -> None:
        with pytest.raises(AccessDenied, match="lambda:InvokeFunction on forbidden"):
            TokenSource(Lambda("forbidden", client=invoke._client)).get()

    def test_reports_keys_that_aws_refuses(self, invoke: Lambda) -> None:
        with pytest.raises(AccessDenied, match=r"AWS refused .*: ExpiredTokenException"):
            TokenSource(Lambda("expired", client=invoke._client)).get()

    @pytest.mark.parametrize(
        "payload",
        [
            b'{"errorMessage": "Task timed out after 30.00 seconds"}',
            b'{"errorType": "Runtime.ExitError", "errorMessage": "exit status 1"}',
            b'{"errorType": "timeoutError", "errorMessage": "timed out"}',
        ],
    )
    def test_reports_errors_of_the_platform(self, fakes: Fakes, invoke: Lambda, payload: bytes) -> None:
        fakes.broker.raw = (200, payload)
        with pytest.raises(Unavailable, match=r"timed out|Runtime\.ExitError|failed: timeoutError"):
            TokenSource(invoke).get()

    def test_without_credentials_or_name_is_not_configured(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(NotConfigured, match="TOKEN_BROKER_FUNCTION"):
            TokenSource(Lambda()).get()
        with pytest.raises(NotConfigured, match="NoRegionError"):
            TokenSource(Lambda("token-broker:live")).get()

    @pytest.mark.parametrize(
        "variables, reason",
        [
            ({}, "NoCredentialsError"),
            ({"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE"}, "PartialCredentialsError"),
            ({"AWS_PROFILE": "unknown"}, "ProfileNotFound"),
        ],
    )
    def test_says_what_is_wrong_with_the_credentials(
        self, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], reason: str
    ) -> None:
        for name, value in {"AWS_DEFAULT_REGION": "eu-west-1", **variables}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(NotConfigured, match=f"lambda:InvokeFunction on token-broker: {reason}"):
            TokenSource(Lambda("token-broker")).get()

    def test_without_boto3_names_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        hide(monkeypatch, "boto3")
        with pytest.raises(NotConfigured, match=r"token-broker\[lambda\]"):
            TokenSource(Lambda("token-broker:live")).get()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("make", [lambda fakes: Lambda("f"), lambda fakes: HttpApi(f"{fakes.url}/prod")])
def test_a_forked_child_opens_its_own_connection(
    fakes: Fakes, aws_keys: None, monkeypatch: pytest.MonkeyPatch, make: Callable[[Fakes], Transport]
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", fakes.url)
    source = TokenSource(make(fakes))
    source.get()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = source.get("emea").generation
        finally:
            os._exit(status)
    assert os.WEXITSTATUS(os.waitpid(child, 0)[1]) == 7
    source.get("apac")
    parents, childs, parents_again = fakes.broker_connections
    assert parents == parents_again != childs


@pytest.mark.parametrize("make", [lambda fakes: Lambda("f"), lambda fakes: HttpApi(f"{fakes.url}/prod")])
def test_a_copy_opens_its_own_connection(
    fakes: Fakes, aws_keys: None, monkeypatch: pytest.MonkeyPatch, make: Callable[[Fakes], Transport]
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", fakes.url)
    source = TokenSource(make(fakes))
    source.get()
    assert pickle.loads(pickle.dumps(source)).get().generation == 7
    assert len(set(fakes.broker_connections)) == 2


class TestHttpApi:
    def test_reports_a_wrong_signature_without_the_gateways_text(
        self, http_api: HttpApi, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        with pytest.raises(AccessDenied) as caught:
            TokenSource(http_api).get()
        assert "session-secret" not in str(caught.value)

    @pytest.mark.parametrize("url", [None, "http://api.example.com", "http://127.0.0.1.example.com", "ftp://x"])
    def test_refuses_urls_that_are_not_https(self, url: str | None) -> None:
        with pytest.raises(NotConfigured, match="https"):
            TokenSource(HttpApi(url)).get()

    def test_without_credentials_is_not_configured(self, fakes: Fakes) -> None:
        with pytest.raises(NotConfigured, match=r"there are no AWS credentials$"):
            TokenSource(HttpApi(fakes.url, region="eu-west-1")).get()

    def test_without_a_region_is_not_configured(self, http_api: HttpApi, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_DEFAULT_REGION")
        with pytest.raises(NotConfigured, match=r"there is no AWS Region; set AWS_REGION$"):
            TokenSource(http_api).get()

    def test_finds_the_region_in_aws_region_first(
        self, http_api: HttpApi, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_REGION", "ap-south-1")
        TokenSource(http_api).get()
        assert fakes.broker_headers[0]["Authorization"].split("/")[2] == "ap-south-1"

    @pytest.mark.parametrize(
        "variables, trusted",
        [
            ({}, True),
            ({"REQUESTS_CA_BUNDLE": "requests.pem"}, "requests.pem"),
            ({"AWS_CA_BUNDLE": "aws.pem", "REQUESTS_CA_BUNDLE": "requests.pem"}, "aws.pem"),
        ],
    )
    def test_trusts_the_authorities_that_the_environment_names(
        self, http_api: HttpApi, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], trusted: object
    ) -> None:
        seen: list[object] = []

        class Recorded(botocore.httpsession.URLLib3Session):  # type: ignore[misc]
            def __init__(self, **options: Any) -> None:
                seen.append(options.pop("verify", None))
                super().__init__(**options)

        monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("botocore.httpsession.URLLib3Session", Recorded)
        TokenSource(http_api).get()
        # botocore's own requests for credentials come first.
        assert seen[-1] == trusted

    def test_that_is_unreachable_is_unavailable(self, aws_keys: None) -> None:
        with Fakes() as stopped:
            url = stopped.url
        with pytest.raises(Unavailable, match=r"POST 127\.0\.0\.1 failed"):
            TokenSource(HttpApi(url)).get()

    def test_takes_a_session_a_region_and_a_service(self, fakes: Fakes, aws_keys: None) -> None:
        session = botocore.session.Session()
        session.set_credentials("AKIDOTHER", AWS_KEYS["AWS_SECRET_ACCESS_KEY"])
        source = TokenSource(HttpApi(f"{fakes.url}/prod/", session=session, region="ap-south-1", service="lambda"))
        assert source.get().generation == 7
        key, _, *scope = fakes.broker_headers[0]["Authorization"].split(",")[0].split("/")
        assert key.endswith("AKIDOTHER") and scope == ["ap-south-1", "lambda", "aws4_request"]

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
    def test_may_be_called_by_http_on_this_host(self, aws_keys: None, host: str) -> None:
        with Fakes() as stopped:
            port = stopped.port
        with pytest.raises(Unavailable):
            TokenSource(HttpApi(f"http://{host}:{port}")).get()

    def test_uses_the_proxy_of_the_environment(self, http_api: HttpApi, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("NO_PROXY")
        with pytest.raises(Unavailable, match="ProxyConnectionError"):
            TokenSource(http_api).get()

    def test_without_botocore_names_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        hide(monkeypatch, "botocore")
        with pytest.raises(NotConfigured, match=r"token-broker\[http-api\]"):
            TokenSource(HttpApi("https://api.example.com")).get()


def hide(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **more: Any) -> Any:
        if name.split(".")[0] == package:
            raise ImportError(name)
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", without)
