"""Checks the function's answers on the SAM CLI's emulators. Each command of tests/system/sam.sh fails on a wrong one.

    sam_answers.py event NAME       standard input is the answer to events/NAME.json
    sam_answers.py http EXPECTED    standard input is the output of `curl --include`
    sam_answers.py boto3 URL        invokes the function through `sam local start-lambda`
    sam_answers.py upstream NAME=NUMBER...    standard input is what Convirza has received
"""

import json
import sys

# The result of each event without a caller policy.
EVENTS = {
    "direct-refresh": "token",
    "direct-revoke": "revoked",
    "direct-status": "status",
    "direct-token": "token",
    "direct-token-with-options": "token",
    "http-refresh": "access_denied",
    "http-revoke": "access_denied",
    "http-status": "status",
    "http-token": "token",
    "http-token-form": "token",
    "rest-refresh": "access_denied",
    "rest-revoke": "access_denied",
    "rest-status": "status",
    "rest-token": "token",
    "rest-token-form": "token",
    "schedule-maintain": "maintained",
    "url-token": "token",
}
STATUS = {"token": 200, "status": 200, "invalid_request": 400, "unsupported_grant_type": 400, "access_denied": 403}


def is_token(answer, account="default"):
    assert answer["account"] == account, answer
    assert answer["token_type"] == "Bearer" and answer["access_token"], answer
    assert 0 < answer["expires_in"] <= 900, answer
    assert answer["generation"] > 0, answer


def is_status(answer):
    assert [account["account"] for account in answer["accounts"]], answer
    assert "access_token" not in json.dumps(answer), answer


def is_maintained(answer):
    assert answer["failed"] == 0 and {account["account"] for account in answer["accounts"]} == {"default", "emea"}, answer


def is_error(answer, code):
    assert answer["error"] == code and answer["error_description"] and answer["request_id"], answer


def is_body(expected, status, headers, body):
    """An HTTP answer of the function."""
    assert status == STATUS[expected], (status, body)
    assert headers["cache-control"] == "no-store" and headers["content-type"] == "application/json", headers
    match expected:
        case "token":
            is_token(body)
        case "status":
            is_status(body)
        case code:
            is_error(body, code)


def event(name):
    expected, answer = EVENTS[name], json.load(sys.stdin)
    print(answer)
    if not name.startswith("direct-") and name != "schedule-maintain":
        is_body(expected, answer["statusCode"], answer["headers"], json.loads(answer["body"]))
        return
    assert "errorType" not in answer, answer
    match expected:
        case "token":
            is_token(answer, "emea" if name == "direct-token-with-options" else "default")
        case "status":
            is_status(answer)
        case "revoked":
            assert answer["revoked"] and answer["pending_revocations"] == 0, answer
        case "maintained":
            is_maintained(answer)


def http(expected):
    head, _, body = sys.stdin.read().partition("\n\n")
    first, *lines = head.splitlines()
    status = int(first.split()[1])
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    if expected == "not_routed":
        # API Gateway's own answer: the function was not invoked.
        assert status in (403, 404) and set(json.loads(body)) == {"message"}, body
    else:
        is_body(expected, status, headers, json.loads(body))


def boto3(url):
    from concurrent.futures import ThreadPoolExecutor

    import boto3

    client = boto3.client(
        "lambda", endpoint_url=url, region_name="us-east-1", aws_access_key_id="local", aws_secret_access_key="local"
    )

    def invoke(payload):
        answer = client.invoke(FunctionName="BrokerFunction", Payload=json.dumps(payload))
        assert answer["StatusCode"] == 200, answer
        read = json.load(answer["Payload"])
        print(payload, answer.get("FunctionError"), read)
        return answer.get("FunctionError"), read

    def is_failure(payload, error_type, text):
        problem, answer = invoke(payload)
        assert problem == "Unhandled", problem
        assert answer["errorType"] == error_type and text in answer["errorMessage"], answer

    problem, answer = invoke({})
    assert problem is None
    is_token(answer)
    is_failure({"colour": "red"}, "invalid_request", "colour")
    is_failure({"account": "nobody"}, "unknown_account", "no secret")
    problem, answer = invoke({"action": "maintain"})
    assert problem is None
    is_maintained(answer)
    with ThreadPoolExecutor() as pool:
        generations = {answer["generation"] for _, answer in pool.map(invoke, [{}] * 8)}
    assert len(generations) == 1, generations


def upstream(*expected):
    observed = json.load(sys.stdin)
    print(observed)
    for pair in expected:
        name, _, number = pair.partition("=")
        assert observed[name] == int(number), (pair, observed)


{function.__name__: function for function in (event, http, boto3, upstream)}[sys.argv[1]](*sys.argv[2:])
