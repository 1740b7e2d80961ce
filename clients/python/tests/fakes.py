"""A broker behind its three fronts, and an API, on one loopback port. They speak the contract."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Callable
from urllib.parse import parse_qsl, quote, urlsplit

CONTRACT = json.loads((Path(__file__).parents[3] / "crates/contract/contract.json").read_text())
TOKEN_PATH = CONTRACT["agent"][0]["token_path"]
IN_12_SECONDS, UNKNOWN_CLIENT = (message["text"] for message in CONTRACT["messages"])
GUARD = "guard-secret"
AWS_KEYS = {
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "aws-secret",
    "AWS_SESSION_TOKEN": "session-secret",
    "AWS_DEFAULT_REGION": "eu-west-1",
}


class Clock:
    """A wall clock that moves only when a test says so."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self._calls = 0
        self._changed = threading.Condition()

    def __call__(self) -> float:
        with self._changed:
            self._calls += 1
            self._changed.notify_all()
            return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds

    def wait_for_calls(self, calls: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._calls >= calls, timeout=30)


class Broker:
    """One token pair per account, and switches for what can go wrong."""

    def __init__(self) -> None:
        self.expires_in = 900
        self.max_ttl = 900
        self.knows_client = True
        self.requests: list[dict[str, Any]] = []
        self.fault: dict[str, Any] | None = None
        self.raw: tuple[Any, ...] | None = None
        self.dead: set[str] = set()
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.before_answer: Callable[[], None] = lambda: None
        self._generations: dict[str, int] = {}
        self._lock = threading.Lock()

    def token(self, account: str = "default", generation: int | None = None) -> str:
        return f"token-secret-{account}-{generation or self._generations.get(account, 7)}"

    def revoke(self, account: str = "default") -> None:
        """The upstream ends the session without the broker's knowledge."""
        self.dead.add(self.token(account))

    def replace(self, account: str = "default") -> None:
        self._generations[account] = self._generations.get(account, 7) + 1

    def restore(self, account: str = "default") -> None:
        """Restores the broker's table from before the last replacement."""
        self._generations[account] -= 1

    def answer(self, fields: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        with self._lock:
            self.requests.append(fields)
        assert self.may_answer.wait(30)
        self.before_answer()
        if self.fault is not None:
            return 503, self.fault
        with self._lock:
            if not self.knows_client and "client" in fields:
                return 400, error("invalid_request", f"{UNKNOWN_CLIENT}; the fields are `action`, `account`")
            account = fields.get("account", "default")
            if account == "nobody":
                return 404, error("unknown_account", "no secret for that account")
            if int(fields.get("min_ttl_seconds", 0)) > self.max_ttl:
                return 400, error("invalid_request", f"`min_ttl_seconds` may be at most {self.max_ttl}")
            generation = self._generations.setdefault(account, 7)
            if int(fields.get("rejected_generation", 0)) == generation and self.token(account) in self.dead:
                self.replace(account)
            return 200, {
                "access_token": self.token(account),
                "token_type": "Bearer",
                "expires_in": self.expires_in,
                "expires_at": "2026-04-06T12:34:56Z",
                "account": account,
                "generation": self._generations[account],
                "served_from": "memory",
            }


def error(code: str, description: str, retry_after: int | None = None) -> dict[str, Any]:
    fields: dict[str, Any] = {"error": code, "error_description": description, "request_id": "request-1"}
    return fields if retry_after is None else {**fields, "retry_after": retry_after}


class Fakes:
    """The server. `api_requests` are (path, body, token) as received by the API."""

    def __init__(self) -> None:
        self.broker = Broker()
        self.api_requests: list[tuple[str, bytes, str | None]] = []
        self.broker_headers: list[Any] = []
        self.broker_connections: list[Any] = []
        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.fakes = self
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> Fakes:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.broker.may_answer.set()
        self._server.shutdown()
        self._server.server_close()


class Server(ThreadingHTTPServer):
    fakes: Fakes
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: Any) -> None:
        """A client that closes its connection early is not an error of the server."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._route()

    def do_POST(self) -> None:
        self._route()

    def do_OPTIONS(self) -> None:
        self._route()

    def do_HEAD(self) -> None:
        self._route()

    def _route(self) -> None:
        assert isinstance(self.server, Server)
        self.fakes = self.server.fakes
        path = urlsplit(self.path).path
        body = self._body()
        if path.endswith("/token") or path.endswith("/invocations"):
            self.fakes.broker_connections.append(self.client_address)
        if path == TOKEN_PATH:
            self._agent()
        elif path == "/prod/token":
            self._http_api(body)
        elif path.startswith("/2015-03-31/functions/"):
            self._invoke(body)
        else:
            self._api(path, body)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _agent(self) -> None:
        self.fakes.broker_headers.append(self.headers)
        if self.headers.get("X-Token-Broker-Token") != GUARD or "X-Forwarded-For" in self.headers:
            self._send(401, error("access_denied", "the guard token is missing or wrong"))
        elif self.headers["Host"].rsplit(":", 1)[0] not in ("127.0.0.1", "localhost"):
            self._send(403, error("access_denied", "not a loopback host"))
        else:
            self._send_answer(dict(parse_qsl(urlsplit(self.path).query)))

    def _http_api(self, body: bytes) -> None:
        self.fakes.broker_headers.append(self.headers)
        if not self._is_signed_by(AWS_KEYS["AWS_SECRET_ACCESS_KEY"], body):
            canonical = f"the canonical request has x-amz-security-token:{self.headers.get('x-amz-security-token')}"
            self._send(403, {"message": canonical})
        else:
            self._send_answer(json.loads(body))

    def _send_answer(self, fields: dict[str, Any]) -> None:
        if self.fakes.broker.raw is not None:
            self._send(*self.fakes.broker.raw)
            return
        self._send(*self.fakes.broker.answer(fields))

    def _invoke(self, body: bytes) -> None:
        self.fakes.broker_headers.append(self.headers)
        refusals = {"forbidden": "AccessDeniedException", "expired": "ExpiredTokenException"}
        if refusal := refusals.get(self.path.split("/")[3]):
            self._send(403, {"Message": "secret"}, {"x-amzn-ErrorType": refusal})
            return
        if self.fakes.broker.raw is not None:
            self._send(*(*self.fakes.broker.raw, {"X-Amz-Function-Error": "Unhandled"})[:3])
            return
        status, answer = self.fakes.broker.answer(json.loads(body))
        if status == 200:
            self._send(200, answer)
            return
        retry = IN_12_SECONDS.replace("12", str(answer["retry_after"])) if "retry_after" in answer else ""
        failure = {"errorType": answer["error"], "errorMessage": answer["error_description"] + retry}
        self._send(200, failure, {"X-Amz-Function-Error": "Unhandled"})

    def _api(self, path: str, body: bytes) -> None:
        authorization = self.headers.get("Authorization")
        token = authorization[len("Bearer ") :] if authorization else None
        self.fakes.api_requests.append((path, body, token))
        if path == "/elsewhere":
            self._send(307, {}, {"Location": f"http://localhost:{self.fakes.port}/items"})
        elif path == "/effect":
            self.fakes.broker.dead.add(self.fakes.broker.token(generation=7))
            self._send(303, {}, {"Location": "/items"})
        elif token is None or token in self.fakes.broker.dead or path == "/always-401":
            self._send(401, {"message": "Unauthorized"})
        else:
            self._send(200, {"path": path})

    def _send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if isinstance(body, dict) and "retry_after" in body:
            self.send_header("Retry-After", str(body["retry_after"]))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _is_signed_by(self, secret: str, body: bytes) -> bool:
        """Computes the signature of the request as it arrived."""
        scheme, _, rest = self.headers.get("Authorization", "").partition(" ")
        if scheme != "AWS4-HMAC-SHA256":
            return False
        parts = dict(part.strip().split("=", 1) for part in rest.split(","))
        scope = parts["Credential"].split("/", 1)[1]
        date, region, service, _ = scope.split("/")
        stamp = self.headers["X-Amz-Date"]
        sent_at = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
        names = parts["SignedHeaders"].split(";")
        canonical = "\n".join(
            [self.command, quote(self.path), ""]
            + [f"{name}:{self.headers[name].strip()}" for name in names]
            + ["", parts["SignedHeaders"], hashlib.sha256(body).hexdigest()]
        )
        to_sign = "\n".join([scheme, stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        key = f"AWS4{secret}".encode()
        for part in (date, region, service, "aws4_request", to_sign):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        recent = abs(time.time() - sent_at.timestamp()) < 300
        return recent and {"host", "x-amz-date"} <= set(names) and hmac.compare_digest(key.hex(), parts["Signature"])
