"""The local stack, for the Python clients."""

import os
import time

import requests
from requests.adapters import HTTPAdapter

TOKEN_URL = os.environ["BROKER_URL"] + "/token"
CONVIRZA_URL = os.environ["CONVIRZA_URL"]
API_URL = CONVIRZA_URL + "/v3/users/list"


class Counting(HTTPAdapter):
    """Counts a session's requests to the broker, and keeps the last answer."""

    def __init__(self, session):
        super().__init__()
        self.asked = 0
        self.answer = None
        session.mount("http://", self)

    def send(self, request, **options):
        response = super().send(request, **options)
        if request.url == TOKEN_URL:
            self.asked += 1
            self.answer = response
        return response


class ConvirzaDown:
    """Removes the pair, and lets no login succeed."""

    def __enter__(self):
        requests.post(os.environ["BROKER_URL"] + "/revoke").raise_for_status()
        fault = {"endpoint": "login", "fault": "server_error"}
        requests.put(CONVIRZA_URL + "/_emulator/faults", json=fault).raise_for_status()

    def __exit__(self, *_failure):
        requests.delete(CONVIRZA_URL + "/_emulator/faults").raise_for_status()


def wait_until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)
