"""A Lambda function on its own runtime that calls Convirza through the agent."""

import json
import os
from urllib.request import Request, urlopen

from token_broker import TokenSource

RUNTIME = f"http://{os.environ['AWS_LAMBDA_RUNTIME_API']}/2018-06-01/runtime/invocation"
AGENT = f"http://127.0.0.1:{os.environ['TOKEN_BROKER_PORT']}"
source = TokenSource()


def handler(_event):
    # Like code for AWS's own extension.
    headers = {"X-Aws-Parameters-Secrets-Token": os.environ["AWS_SESSION_TOKEN"]}
    with urlopen(Request(f"{AGENT}/proxy/default/v3/users/list", headers=headers)) as response:
        users = json.load(response)
        proxied = response.headers["X-Token-Broker-Generation"]
    return {"users": users["result"], "generations": [source.get().generation, int(proxied)]}


while True:
    with urlopen(f"{RUNTIME}/next") as invocation:
        request_id = invocation.headers["Lambda-Runtime-Aws-Request-Id"]
        event = json.load(invocation)
    try:
        answer, ending = handler(event), "response"
    except Exception as error:
        answer, ending = {"errorType": type(error).__name__, "errorMessage": str(error)}, "error"
    urlopen(Request(f"{RUNTIME}/{request_id}/{ending}", data=json.dumps(answer).encode())).close()
