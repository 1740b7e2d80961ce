"""A Lambda that calls the Convirza API with a token from the broker, which it invokes directly.

It needs `lambda:InvokeFunction` on the broker's alias, and nothing that Lambda's Python does not bring along.
"""

import json
import os
import re
import threading
import time
import urllib.error
import urllib.request

import boto3

BROKER = os.environ.get("BROKER_FUNCTION", "token-broker:live")
API_URL = os.environ.get("CONVIRZA_API_URL", "https://platform-api.convirza.com/v3")


class BrokerError(Exception):
    """The broker has no token: `code` says why, and `retry_after`, where it is known, after how many seconds to ask again."""

    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code = code
        retry_after = re.search(r"\(retry_after=(\d+)\)$", message)
        self.retry_after = int(retry_after[1]) if retry_after else None


class Tokens:
    """The token of one account, kept for as long as it is good. While one thread asks for it, the others wait."""

    def __init__(self, client, account="default"):
        self._client = client
        self._account = account
        self._lock = threading.Lock()
        self._token = None
        self._good_until = 0

    def get(self):
        """A token that is good for now."""
        with self._lock:
            # The wall clock, since it goes on while Lambda has frozen the instance.
            if time.time() >= self._good_until:
                self._ask()
            return self._token

    def instead_of(self, refused):
        """The token to try after the API has answered 401 to this one."""
        with self._lock:
            # Another thread may have reported it in the meantime.
            if self._token["generation"] == refused["generation"]:
                self._ask(rejected_generation=refused["generation"])
            return self._token

    def _ask(self, **fields):
        asked_at = time.time()
        payload = json.dumps({"account": self._account, **fields})
        response = self._client.invoke(FunctionName=BROKER, Payload=payload)
        answer = json.load(response["Payload"])
        if "FunctionError" in response:
            raise BrokerError(answer.get("errorType", "unknown"), answer.get("errorMessage", ""))
        self._token, self._good_until = answer, asked_at + answer["expires_in"]


# Once per instance, not once per invocation.
tokens = Tokens(boto3.client("lambda"))


def call_api(path):
    """GET with a token. A 401 is reported once and the request tried once more; another 401 is the API's last word."""
    token = tokens.get()
    try:
        return _get(path, token)
    except urllib.error.HTTPError as error:
        if error.code != 401:
            raise
    return _get(path, tokens.instead_of(token))


def _get(path, token):
    headers = {"Authorization": f"Bearer {token['access_token']}"}
    with urllib.request.urlopen(urllib.request.Request(API_URL + path, headers=headers), timeout=10) as response:
        return json.load(response)


def handler(_event, _context):
    return call_api("/users/list")
