"""Tests the Lambda in Python against the local stack."""

import json
import os
import sys
import unittest
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import boto3

CONVIRZA_URL = os.environ["CONVIRZA_URL"]
invocations = 0


def count(**_call):
    global invocations
    invocations += 1


boto3.setup_default_session()
boto3.DEFAULT_SESSION.events.register("before-call.lambda.Invoke", count)
sys.path.insert(0, "examples/callers/python")
import caller  # noqa: E402: the invocations of its clients have to be counted


def emulator(method, path, body=None):
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(f"{CONVIRZA_URL}/_emulator/{path}", data, method=method)
    with urllib.request.urlopen(request) as response:
        return json.loads(response.read() or "null")


def at_once(work):
    with ThreadPoolExecutor(8) as threads:
        return [task.result() for task in [threads.submit(work) for _ in range(8)]]


class PythonCaller(unittest.TestCase):
    def tearDown(self):
        emulator("DELETE", "faults")

    def assertInvocations(self, expected):
        self.assertEqual(invocations, expected)

    def test_keeps_its_token_until_it_expires(self):
        for answer in at_once(lambda: caller.handler({}, None)):
            self.assertEqual(answer["result"], "success")
        self.assertInvocations(1)
        end = caller.tokens._expires_at
        with mock.patch("time.time", lambda: end - 0.1):
            caller.handler({}, None)
        self.assertInvocations(1)
        with mock.patch("time.time", lambda: end):
            caller.handler({}, None)
        self.assertInvocations(2)

    def test_reports_a_refused_token_once(self):
        refused = caller.tokens.get()
        before = emulator("GET", "observed")
        emulator("POST", "revoke-sessions?access_only=true")
        for answer in at_once(lambda: caller.handler({}, None)):
            self.assertEqual(answer["result"], "success")
        self.assertInvocations(2)
        self.assertGreater(caller.tokens.get()["generation"], refused["generation"])
        after = emulator("GET", "observed")
        self.assertEqual(after["refreshes"], before["refreshes"] + 1)
        self.assertEqual(after["logins_arrived"], before["logins_arrived"])

    def test_gives_up_after_the_second_401(self):
        emulator("PUT", "faults", {"endpoint": "api", "fault": "wrong_password"})
        with mock.patch.object(caller, "_get", wraps=caller._get) as requests:
            with self.assertRaises(urllib.error.HTTPError) as raised:
                caller.handler({}, None)
        self.assertEqual(raised.exception.code, 401)
        self.assertEqual(requests.call_count, 2)
        self.assertInvocations(2)

    def test_raises_the_brokers_error_with_its_code(self):
        client = boto3.client("lambda")
        with self.assertRaises(caller.BrokerError) as raised:
            caller.Tokens(client, account="nobody").get()
        self.assertEqual((raised.exception.code, raised.exception.retry_after), ("unknown_account", None))
        client.invoke(FunctionName="token-broker:operator", Payload='{"action":"revoke"}')
        emulator("PUT", "faults", {"endpoint": "login", "fault": "server_error"})
        with self.assertRaises(caller.BrokerError) as raised:
            caller.handler({}, None)
        self.assertEqual(raised.exception.code, "upstream_unavailable")
        self.assertGreater(raised.exception.retry_after, 0)


if __name__ == "__main__":
    unittest.main()
