"""A Lambda that calls the Convirza API with a token from the broker. It invokes the broker directly.

It needs `lambda:InvokeFunction` on the broker's alias. Lambda's Python runtime has every package that it uses.
"""

import json
import os
import re
import threading
import time
import urllib.error
import urllib.request

import boto3

# The stack's output LiveAliasArn.
BROKER = os.environ["TOKEN_BROKER_FUNCTION"]
API_URL = os.environ.get("CONVIRZA_API_URL", "https://platform-api.convirza.com/v3")


class BrokerError(Exception):
    """The broker has no token: `code` says why; `retry_after`, if known, is the number of seconds to wait before a retry."""

    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code = code
        retry_after = re.search(r"\(retry_after=(\d+)\)$", message)
        self.retry_after = int(retry_after[1]) if retry_after else None


class Tokens:
    """The token of one account, cached until it expires. While one thread invokes the broker, the others wait."""

    def __init__(self, client, account="default"):
        self._client = client
        self._account = account
        self._lock = threading.Lock()
        self._token = None
        self._expires_at = 0

    def get(self):
        """A valid token."""
        with self._lock:
            # The wall clock, because a monotonic clock may stop while Lambda has frozen the instance.
            if time.time() >= self._expires_at:
                self._request()
            return self._token

    def report(self, rejected):
        """Reports that the API answered 401 to this token, and returns the token for the next try."""
        with self._lock:
            # Another thread may already have replaced it.
            if self._token["generation"] == rejected["generation"]:
                self._request(rejected_generation=rejected["generation"])
            return self._token

    def _request(self, **fields):
        sent_at = time.time()
        payload = json.dumps({"account": self._account, **fields})
        response = self._client.invoke(FunctionName=BROKER, Payload=payload)
        answer = json.load(response["Payload"])
        if "FunctionError" in response:
            raise BrokerError(answer.get("errorType", "unknown"), answer.get("errorMessage", ""))
        self._token, self._expires_at = answer, sent_at + answer["expires_in"]


# Created once per instance, not once per invocation.
tokens = Tokens(boto3.client("lambda"))


def call_api(path):
    """GET with a token. After a 401 the token is reported and the request retried once; a second 401 is an error."""
    token = tokens.get()
    try:
        return _get(path, token)
    except urllib.error.HTTPError as error:
        if error.code != 401:
            raise
    return _get(path, tokens.report(token))


def _get(path, token):
    headers = {"Authorization": f"Bearer {token['access_token']}"}
    with urllib.request.urlopen(urllib.request.Request(API_URL + path, headers=headers), timeout=10) as response:
        return json.load(response)


def handler(_event, _context):
    return call_api("/users/list")
