import json, os, urllib.request
from service import name_of

def stack(method, path, body=None):
    url = f"{os.environ['CONVIRZA_API_URL']}/_emulator/{path}"
    urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), method=method)).close()

def test_callers_do_not_notice_a_revocation():
    stack("POST", "reset")
    stack("PUT", "routes", [{"path": "/v3/calls/*", "body": {"name": "Ada"}}])
    for trouble in ["observed", "revoke-sessions", "clock?forward_seconds=700000"]:
        stack("GET" if trouble == "observed" else "POST", trouble)
        assert name_of(7) == "Ada"
