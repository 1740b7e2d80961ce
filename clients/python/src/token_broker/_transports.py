"""Three ways to reach the broker: the agent on this host, direct invocation, and the HTTP API."""

from __future__ import annotations

import http.client
import json
import os
import re
from collections.abc import Mapping
from typing import Any, Callable, NoReturn, Union
from urllib.parse import urlencode, urlsplit

from ._errors import InvalidRequest, TokenBrokerError

_Answer = Union[dict[str, object], TokenBrokerError]

#: Longer responses are not the broker's.
_MAX_RESPONSE_BYTES = 1_048_576
_GUARD_VARIABLES = ("TOKEN_BROKER_TOKEN", "AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN")
_RETRY_AFTER = re.compile(r" \(retry_after=(\d+)\)$")
_REGION_OF_ARN = re.compile(r"arn:[^:]+:lambda:([^:]+):")
_HOST_OF_AWS = re.compile(
    r"[^.]+\.(?:execute-api\.(?P<api>[^.]+)\.(?:(?:vpce\.)?amazonaws\.com|amazonaws\.com\.cn|amazonaws\.eu)"
    r"|lambda-url\.(?P<url>[^.]+)\.on\.aws)"
)
_CODE = re.compile(r"[a-z]+(_[a-z]+)*")


class Agent:
    """The agent, on 127.0.0.1.

    `token` is the guard token or `file://PATH`. By default it is the first of these variables that is set:
    `TOKEN_BROKER_TOKEN`, `AWS_SESSION_TOKEN`, `AWS_CONTAINER_AUTHORIZATION_TOKEN`. It is read for each request, because
    a restored snapshot or a rotated file has a new one. The port is `TOKEN_BROKER_PORT`, or 2774.
    """

    def __init__(self, *, port: int | None = None, token: str | None = None, timeout: float = 25) -> None:
        self._port = port
        self._token = token
        self._timeout = timeout

    def __repr__(self) -> str:
        return f"Agent(port={self._port or _port_of_environment()})"

    def fetch(self, account: str, min_ttl_seconds: int | None, rejected_generation: int | None) -> Mapping[str, object]:
        query = urlencode(_fields(account, min_ttl_seconds, rejected_generation))
        return _raise_errors(self._exchange(f"/v1/token?{query}"))

    def _exchange(self, path: str) -> _Answer:
        port = self._port or _port_of_environment()
        if not (str(port).isdecimal() and 0 < int(port) < 65_536):
            return TokenBrokerError.of("not_configured", "TOKEN_BROKER_PORT must be a port number")
        guard = _guard_token(self._token)
        if isinstance(guard, TokenBrokerError):
            return guard
        # Not urllib: a proxy from the environment must not see a request to this host.
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=self._timeout)
        try:
            connection.request("GET", path, headers={"X-Token-Broker-Token": guard.value})
            response = connection.getresponse()
            return _read(response.status, response.headers, response.read(_MAX_RESPONSE_BYTES))
        except (OSError, http.client.HTTPException) as error:
            reason = type(error).__name__
        finally:
            connection.close()
        return TokenBrokerError.of("broker_unavailable", f"the agent on 127.0.0.1:{port} does not answer: {reason}")


class Lambda:
    """Direct invocation of the broker's function, through boto3 (extra `lambda`).

    `function_name` is a name or an ARN, alias included; by default `TOKEN_BROKER_FUNCTION`. `client` is a boto3 Lambda
    client; by default, the first request creates one.
    """

    def __init__(self, function_name: str | None = None, *, client: Any = None, timeout: float = 30) -> None:
        self._function_name = function_name
        self._client = client
        self._own_client = _PerProcess()
        self._named = _Named()
        self._timeout = timeout

    def __repr__(self) -> str:
        return f"Lambda({self._function_name or os.environ.get('TOKEN_BROKER_FUNCTION')!r})"

    def fetch(self, account: str, min_ttl_seconds: int | None, rejected_generation: int | None) -> Mapping[str, object]:
        fields = _fields(account, min_ttl_seconds, rejected_generation)
        return _raise_errors(self._named.send(fields, self._invoke))

    def _invoke(self, payload: str) -> _Answer:
        function_name = self._function_name or os.environ.get("TOKEN_BROKER_FUNCTION")
        if not function_name:
            return TokenBrokerError.of("not_configured", "name the broker's function, or set TOKEN_BROKER_FUNCTION")
        try:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import ClientError
        except ImportError:
            return TokenBrokerError.of("not_configured", "boto3 is missing; install token-broker[lambda]")

        def make_client() -> Any:
            retries = {"mode": "standard", "total_max_attempts": 2}
            config = Config(connect_timeout=5, read_timeout=self._timeout, retries=retries)
            region = _REGION_OF_ARN.match(function_name)
            # Its own session, because threads must not create clients with boto3's default session at the same time.
            session = boto3.session.Session()
            return session.client("lambda", region_name=region[1] if region else None, config=config)

        try:
            client = self._client or self._own_client.get(make_client)
            response = client.invoke(FunctionName=function_name, Payload=payload)
            return _read_invocation("FunctionError" in response, response["Payload"].read())
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code"))
            refused = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") in (401, 403)
        except Exception as error:  # botocore raises exceptions of many types for a malformed response
            code, refused = type(error).__name__, False
        return _aws_error(code, f"lambda:InvokeFunction on {function_name}", refused)


class HttpApi:
    """The broker's HTTP API, a Function URL or a local stack, with requests signed by botocore (extra `http-api`).

    `url` is the base URL; by default `TOKEN_BROKER_URL`. The Region is taken from the URL if it is there, else from
    `AWS_REGION` or the session. `session` is a `botocore.session.Session`; by default, the first request creates one.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        region: str | None = None,
        service: str | None = None,
        session: Any = None,
        timeout: float = 30,
    ) -> None:
        self._url = url
        self._region = region
        self._service = service
        self._session = session
        self._own_session = _PerProcess()
        self._http = _PerProcess()
        self._named = _Named()
        self._timeout = timeout

    def __repr__(self) -> str:
        return f"HttpApi({self._url or os.environ.get('TOKEN_BROKER_URL')!r})"

    def fetch(self, account: str, min_ttl_seconds: int | None, rejected_generation: int | None) -> Mapping[str, object]:
        fields = _fields(account, min_ttl_seconds, rejected_generation)
        return _raise_errors(self._named.send(fields, self._post))

    def _post(self, body: str) -> _Answer:
        url = self._url or os.environ.get("TOKEN_BROKER_URL") or ""
        host = urlsplit(url).hostname or ""
        if not (
            url.startswith("https://") or (url.startswith("http://") and host in ("127.0.0.1", "localhost", "::1"))
        ):
            return TokenBrokerError.of("not_configured", "give the API's https URL, or set TOKEN_BROKER_URL")
        try:
            from botocore.auth import SigV4Auth
            from botocore.awsrequest import AWSRequest
            from botocore.exceptions import BotoCoreError
            from botocore.httpsession import URLLib3Session
            from botocore.session import Session
            from botocore.utils import get_environ_proxies
        except ImportError:
            return TokenBrokerError.of("not_configured", "botocore is missing; install token-broker[http-api]")
        try:
            session = self._session or self._own_session.get(Session)
            credentials = session.get_credentials()
            service, region = _service_and_region(host)
            service = self._service or service
            # botocore reads only AWS_DEFAULT_REGION.
            region = self._region or region or os.environ.get("AWS_REGION") or session.get_config_variable("region")
            if not region:
                return TokenBrokerError.of("not_configured", "there is no AWS Region; set AWS_REGION")
            if credentials is None:
                return TokenBrokerError.of("not_configured", "there are no AWS credentials")
            request = AWSRequest("POST", url.rstrip("/") + "/token", {"Content-Type": "application/json"}, body)
            SigV4Auth(credentials.get_frozen_credentials(), service, region).add_auth(request)
            http = self._http.get(
                lambda: URLLib3Session(
                    # As in botocore's own clients.
                    verify=session.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE") or True,
                    timeout=(5, self._timeout),
                    proxies=get_environ_proxies(url),
                )
            )
            response = http.send(request.prepare())
            return _read(response.status_code, response.headers, response.content)
        except (BotoCoreError, OSError) as error:
            code = type(error).__name__
        return _aws_error(code, f"POST {host}")


class _PerProcess:
    """Creates an object once, and again in a forked child: two processes must not write to one connection."""

    def __init__(self) -> None:
        self._made: Any = None
        self._process: int | None = None

    def get(self, make: Callable[[], Any]) -> Any:
        if self._process != os.getpid():
            self._made, self._process = make(), os.getpid()
        return self._made

    def __reduce__(self) -> tuple[Any, ...]:
        return _PerProcess, ()  # a copy creates its own


class _Named:
    """Sends requests with `client`, the caller's own name, until a broker of version 0.1.0 refuses the field."""

    def __init__(self) -> None:
        self._is_refused = False

    def send(self, fields: dict[str, str | int], send: Callable[[str], _Answer]) -> _Answer:
        name = os.environ.get("TOKEN_BROKER_CLIENT") or os.environ.get("AWS_LAMBDA_FUNCTION_NAME")
        if name and not self._is_refused:
            answer = send(json.dumps({**fields, "client": name}))
            if not (isinstance(answer, InvalidRequest) and "`client`" in answer.description):
                return answer
            self._is_refused = True
        return send(json.dumps(fields))


class _Guard:
    """A guard token that no traceback shows."""

    def __init__(self, value: str) -> None:
        self.value = value


def _port_of_environment() -> str:
    port = os.environ.get("TOKEN_BROKER_PORT", "")
    # Kubernetes sets it to a URL, for a Service with the name token-broker.
    return port if port and "://" not in port else "2774"


def _guard_token(given: str | None) -> _Guard | TokenBrokerError:
    value = given or next((os.environ[name] for name in _GUARD_VARIABLES if os.environ.get(name)), "")
    if value.startswith("file://"):
        path = value[len("file://") :]
        try:
            with open(path, encoding="ascii") as file:
                value = file.read()
        except (OSError, ValueError):
            return TokenBrokerError.of("not_configured", f"the guard token's file {path} cannot be read")
    value = value.strip()  # secret stores add line ends
    if not value:
        return TokenBrokerError.of("not_configured", f"there is no guard token; set {_GUARD_VARIABLES[0]}")
    if not re.fullmatch(r"[!-~]+", value):
        return TokenBrokerError.of("not_configured", "the guard token has characters that cannot be sent in a header")
    return _Guard(value)


def _fields(account: str, min_ttl: int | None, rejected: int | None) -> dict[str, str | int]:
    fields: dict[str, str | int] = {"account": account}
    if min_ttl is not None:
        fields["min_ttl_seconds"] = min_ttl
    if rejected is not None:
        fields["rejected_generation"] = rejected
    return fields


# The functions below return errors instead of raising them. So no frame of a traceback holds a response that may
# contain a token, and no exception refers to a decoding error that quotes one.


def _raise_errors(answer: _Answer) -> dict[str, object]:
    if isinstance(answer, TokenBrokerError):
        raise answer
    return answer


def _read(status: int, headers: Any, body: bytes) -> _Answer:
    fields = _object(body)
    if status == 200:
        return fields or TokenBrokerError.of("broker_unavailable", "the response is not a token answer")
    stated = (fields or {}).get("retry_after"), headers.get("Retry-After")
    retry_after = next((seconds for seconds in map(_whole_seconds, stated) if seconds is not None), None)
    code = (fields or {}).get("error")
    if fields and isinstance(code, str) and _CODE.fullmatch(code):
        request_id = fields.get("request_id")
        description = str(fields.get("error_description", ""))
        return TokenBrokerError.of(code, description, retry_after, request_id if isinstance(request_id, str) else None)
    # A gateway's own message is not shown, because it may quote the signed request with its session token.
    if status in (401, 403):
        return TokenBrokerError.of("access_denied", f"the request was refused with {status} before the broker saw it")
    return TokenBrokerError.of("broker_unavailable", f"status {status} without the broker's error body", retry_after)


def _read_invocation(is_error: bool, payload: bytes) -> _Answer:
    fields = _object(payload)
    if not is_error:
        return fields or TokenBrokerError.of("broker_unavailable", "the response is not a token answer")
    code = str((fields or {}).get("errorType", ""))
    message = str((fields or {}).get("errorMessage", ""))
    retry_after = _RETRY_AFTER.search(message)
    message = _RETRY_AFTER.sub("", message)
    if not _CODE.fullmatch(code):
        # Lambda's own errors, such as Runtime.ExitError or a timeout, which has no type.
        return TokenBrokerError.of("broker_unavailable", f"the function failed: {code or message}")
    return TokenBrokerError.of(code, message, _whole_seconds(retry_after[1]) if retry_after else None)


def _aws_error(code: str, action: str, refused: bool = False) -> TokenBrokerError:
    if code in ("AccessDeniedException", "AccessDenied"):
        return TokenBrokerError.of("access_denied", f"IAM does not allow {action}")
    if refused:
        return TokenBrokerError.of("access_denied", f"AWS refused {action}: {code}")
    if code in ("NoCredentialsError", "NoRegionError", "PartialCredentialsError", "ProfileNotFound"):
        return TokenBrokerError.of("not_configured", f"{action}: {code}")
    return TokenBrokerError.of("broker_unavailable", f"{action} failed: {code}")


def _service_and_region(host: str) -> tuple[str, str | None]:
    named = _HOST_OF_AWS.fullmatch(host.lower())
    if named is None:
        return "execute-api", None
    return ("lambda", named["url"]) if named["url"] else ("execute-api", named["api"])


def _object(body: bytes) -> dict[str, object] | None:
    try:
        decoded = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):  # RecursionError: it is nested too deeply
        return None
    return decoded if isinstance(decoded, dict) else None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _whole_number(value: object) -> int | None:
    # Some JSON libraries write 900 as 900.0 or 9E2.
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _whole_seconds(value: object) -> int | None:
    # More than a billion seconds must be a mistake, and arithmetic with them may fail.
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        return int(value)
    number = _whole_number(value)
    return number if number is not None and 0 <= number < 10**9 else None
