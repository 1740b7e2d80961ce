"""The Python client against an agent, which it finds through its environment only."""

import os
from urllib.request import Request, urlopen

from token_broker import AccessDenied, Agent, TokenSource

CONVIRZA_URL = os.environ["CONVIRZA_URL"]


def call_api(token):
    headers = {"Authorization": token.authorization}
    with urlopen(Request(f"{CONVIRZA_URL}/v3/users/list", headers=headers)) as response:
        assert response.status == 200


source = TokenSource()
token = source.get()
call_api(token)
assert source.get() == token, "it keeps its token"

urlopen(Request(f"{CONVIRZA_URL}/_emulator/revoke-sessions", method="POST")).close()
other = TokenSource()
renewed = other.report(token.generation)
assert renewed.generation > token.generation, "a dead token is replaced"
call_api(renewed)

try:
    TokenSource(Agent(token="another")).get()
except AccessDenied:
    pass
else:
    raise AssertionError("another guard token is refused")
