"""Runs a command that sends one request to $API_URL, and compares its signature with botocore's."""

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

arrived = []


class Api(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        arrived.append((self.path, dict((name.lower(), value) for name, value in self.headers.items()), body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_line):
        pass


def signature_of(url, path, headers, body, signed_headers):
    """The right signature over the headers that the sender claims to have signed."""
    environment = os.environ
    credentials = Credentials(environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"])
    signed = {name: headers[name] for name in signed_headers}
    request = AWSRequest("POST", url + path, headers=signed, data=body)
    request.context["timestamp"] = headers["x-amz-date"]
    auth = SigV4Auth(credentials, "execute-api", environment["AWS_REGION"])
    return auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)


server = HTTPServer(("127.0.0.1", 0), Api)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}"
subprocess.run(["bash", "-c", sys.argv[1]], env={**os.environ, "API_URL": url}, check=True)

[(path, headers, body)] = arrived
print(headers)
assert path == "/token", path
scheme, _, rest = headers["authorization"].partition(" ")
assert scheme == "AWS4-HMAC-SHA256", scheme
fields = dict(field.strip().split("=", 1) for field in rest.split(","))
signed_headers = fields["SignedHeaders"].split(";")
assert headers.get("x-amz-security-token", "") == os.environ["AWS_SESSION_TOKEN"]
assert {"host", *(name for name in headers if name.startswith("x-amz-"))} <= set(signed_headers), signed_headers
expected = signature_of(url, path, headers, body, signed_headers)
assert fields["Signature"] == expected, (fields, expected)
