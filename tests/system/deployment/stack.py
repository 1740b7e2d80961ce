"""Checks the stack that tests/system/deployment.sh deployed to the AWS emulator.

    stack.py CHECK [ARGUMENT...]
"""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import ClientError
from ministack.core.iam_evaluator import EvalContext, resource_policy_allows

NAME = "token-broker"
ALIASES = ["candidate", "http", "live", "operator", "schedule"]

cloudformation, functions, logs = map(boto3.client, ("cloudformation", "lambda", "logs"))


def described():
    return cloudformation.describe_stacks(StackName=NAME)["Stacks"][0]


def output(name):
    return next(each["OutputValue"] for each in described()["Outputs"] if each["OutputKey"] == name)


def resource(name):
    found = cloudformation.describe_stack_resource(StackName=NAME, LogicalResourceId=name)
    return found["StackResourceDetail"]["PhysicalResourceId"]


def invoke(alias, payload, client=functions):
    """The code of an error, or None, and the answer."""
    found = client.invoke(FunctionName=f"{output('FunctionArn')}:{alias}", Payload=json.dumps(payload))
    answer = json.load(found["Payload"])
    return (answer["errorType"], answer) if "FunctionError" in found else (None, answer)


def versions():
    aliases = functions.list_aliases(FunctionName=output("FunctionArn"))["Aliases"]
    return {each["Name"]: each["FunctionVersion"] for each in aliases}


def user(name, action, resource, session=boto3):
    """The session of a user with only this permission."""
    iam = session.client("iam")
    with contextlib.suppress(iam.exceptions.EntityAlreadyExistsException):
        iam.create_user(UserName=name)
    statement = {"Effect": "Allow", "Action": action, "Resource": resource}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName=name, PolicyName="only", PolicyDocument=policy)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return boto3.Session(key["AccessKeyId"], key["SecretAccessKey"])


def a_caller_gets_a_token_through_live_and_nothing_else():
    caller = user("caller", "lambda:InvokeFunction", output("LiveAliasArn")).client("lambda")
    error, answer = invoke("live", {}, caller)
    assert not error and answer["access_token"] and answer["account"] == "default", answer
    for alias in sorted(set(ALIASES) - {"live"}):
        try:
            invoke(alias, {}, caller)
        except ClientError as refused:
            assert refused.response["Error"]["Code"] == "AccessDeniedException", refused
        else:
            raise AssertionError(f"the caller's policy names live, and {alias} has answered")


def each_alias_refuses_what_is_not_its_own():
    allowed = {("live", "token"), ("live", "status"), ("schedule", "maintain"), ("schedule", "status")}
    allowed |= {("operator", action) for action in ("token", "status", "refresh", "unblock")}
    for alias in ALIASES:
        for action in ("token", "status", "refresh", "unblock", "maintain"):
            error, answer = invoke(alias, {"action": action})
            assert error == (None if (alias, action) in allowed else "access_denied"), (alias, action, answer)


def request(method, path, session=None):
    """The status of a request to the API, and its body."""
    # The emulator uses this name for an API, on its own port.
    host = f"{resource('HttpApi')}.execute-api.localhost"
    url = boto3.client("sts").meta.endpoint_url + path
    signed = AWSRequest(method, url, headers={"host": host, "content-type": "application/json"}, data=b"{}")
    if session:
        SigV4Auth(session.get_credentials(), "execute-api", "us-east-1").add_auth(signed)
    try:
        with urllib.request.urlopen(urllib.request.Request(url, b"{}", dict(signed.headers), method=method)) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        return refused.code, json.load(refused)


def the_api_serves_those_who_sign_and_may():
    caller = user("http-caller", "execute-api:Invoke", output("TokenRouteArn"))
    status, answer = request("POST", "/token", caller)
    assert status == 200 and answer["access_token"], (status, answer)
    assert request("POST", "/token")[0] == 403
    assert request("POST", "/refresh", caller)[0] == 403
    # IAM admits the administrator, but no rule of the broker does.
    status, answer = request("POST", "/refresh", boto3.Session())
    assert (status, answer["error"]) == (403, "access_denied"), (status, answer)
    assert request("POST", "/nowhere", boto3.Session())[0] == 404


def the_schedule_runs_maintenance():
    target = boto3.client("scheduler").get_schedule(Name=resource("MaintenanceSchedule"))["Target"]
    assert target["Arn"] == output("ScheduleAliasArn"), target
    error, answer = invoke("schedule", json.loads(target["Input"]))
    assert not error and answer["failed"] == 0, answer


def the_log_has_the_record_and_the_alarms_their_metrics():
    invoke("live", {})
    error, answer = invoke("live", {"min_ttl_seconds": 90})
    events = logs.filter_log_events(logGroupName=output("LogGroupName"))["events"]
    lines = [json.loads(each["message"]) for each in events if each["message"].startswith("{")]
    assert any(line.get("alias") == "live" and line.get("token_sha256") for line in lines), lines
    assert not any(answer["access_token"] in each["message"] for each in events)
    published = {
        (metric["Name"], line["Function"])
        for line in lines
        for directive in line.get("_aws", {}).get("CloudWatchMetrics", [])
        for metric in directive["Metrics"]
    }
    assert ("Answers", output("FunctionArn").split(":")[-1]) in published, published
    alarms = boto3.client("cloudwatch").describe_alarms()["MetricAlarms"]
    names = {value["Value"] for alarm in alarms for value in alarm["Dimensions"] if value["Name"] == "Function"}
    assert names == {output("FunctionArn").split(":")[-1]}, names


def update(**parameters):
    """Deploys with other values; the end state of the stack."""
    declared = described()["Parameters"]
    values = [
        {"ParameterKey": name, "ParameterValue": parameters[name]}
        if name in parameters
        else {"ParameterKey": name, "UsePreviousValue": True}
        for name in (each["ParameterKey"] for each in declared)
    ]
    cloudformation.update_stack(
        StackName=NAME, UsePreviousTemplate=True, Parameters=values, Capabilities=["CAPABILITY_IAM"]
    )
    while (state := described()["StackStatus"]).endswith("IN_PROGRESS"):
        time.sleep(0.2)
    return state


def another_parameter_moves_all_aliases_to_a_new_version():
    before = versions()
    assert sorted(before) == ALIASES and len(set(before.values())) == 1, before
    assert update(LogRetentionDays="30") == "UPDATE_COMPLETE"
    after = versions()
    assert len(set(after.values())) == 1 and int(after["live"]) > int(before["live"]), (before, after)
    assert invoke("live", {})[0] is None


def subscribed_queue(topic, **attributes):
    sqs = boto3.client("sqs")
    queue = sqs.create_queue(QueueName="pager")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    statement = {"Effect": "Allow", "Principal": "*", "Action": "sqs:SendMessage", "Resource": arn}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": policy})
    boto3.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes=attributes)
    return lambda: sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=2).get("Messages", [])


def a_page_arrives_and_a_ticket_does_not():
    topic = boto3.client("sns").create_topic(Name="alarms")["TopicArn"]
    assert update(AlarmTopicArn=topic) == "UPDATE_COMPLETE"
    only_pages = json.dumps({"AlarmDescription": [{"prefix": "page"}]})
    received = subscribed_queue(topic, FilterPolicyScope="MessageBody", FilterPolicy=only_pages)
    cloudwatch = boto3.client("cloudwatch")
    for name in ("LoginPermitsAlarm", "ThrottlesAlarm"):
        cloudwatch.set_alarm_state(AlarmName=resource(name), StateValue="ALARM", StateReason="a test")
    messages = received() + received()
    assert len(messages) == 1 and "ThrottlesAlarm" in messages[0]["Body"], messages


def the_documents_rule_takes_accounts_that_break():
    config = functions.get_function_event_invoke_config(FunctionName=output("FunctionArn"), Qualifier="schedule")
    bus = "arn:aws:events:us-east-1:123456789012:event-bus/default"
    assert config["DestinationConfig"]["OnSuccess"]["Destination"] == bus, config
    page = pathlib.Path("docs/OPERATIONS.md").read_text()
    pattern = page.split("--event-pattern '")[1].split("}}}}'")[0] + "}}}}"
    pattern = pattern.replace("""'"$FUNCTION"'""", output("FunctionArn"))
    good, bad = {"account": "a", "renewed": False}, {"account": "b", "renewed": False, "error": "grant_lost"}
    for accounts, expected in (([good, bad], True), ([good], False)):
        event = {
            "id": "1",
            "source": "lambda",
            "detail-type": "Lambda Function Invocation Result - Success",
            "account": "123456789012",
            "time": "2026-04-06T12:00:00Z",
            "region": "us-east-1",
            "resources": [bus, output("ScheduleAliasArn")],
            "detail": {"responsePayload": {"failed": len(accounts) - 1, "accounts": accounts}},
        }
        found = boto3.client("events").test_event_pattern(EventPattern=pattern, Event=json.dumps(event))
        assert found["Result"] == expected, (pattern, accounts)


def command_of_the_page(text):
    """The block of OPERATIONS.md that has this text, run with the variables that the page defines."""
    page = pathlib.Path("docs/OPERATIONS.md").read_text()
    block = next(each for each in page.split("```bash\n")[1:] if text in each).split("```")[0]
    subprocess.run(["bash", "-euxc", block], check=True, env={**os.environ, "FUNCTION": output("FunctionArn")})


def live_admits(account, organization=None):
    """Whether the policy of `live` lets a user of this account in, as the emulator evaluates it.

    It cannot be invoked from there: the emulator looks for a function only in the caller's account.
    """
    try:
        policy = functions.get_policy(FunctionName=output("FunctionArn"), Qualifier="live")["Policy"]
    except functions.exceptions.ResourceNotFoundException:
        return False
    context = EvalContext(
        principal_arn=f"arn:aws:iam::{account}:user/partner",
        principal_type="User",
        principal_account=account,
        action="lambda:InvokeFunction",
        resource_arn=output("LiveAliasArn"),
        region="us-east-1",
        service_context={"aws:principalorgid": organization},
    )
    return resource_policy_allows(policy, context, same_account=False)


def another_account_needs_the_pages_permission():
    assert not live_admits("210987654321")
    command_of_the_page("aws lambda add-permission")
    assert live_admits("210987654321") and not live_admits("321098765432")
    permission = {"FunctionName": output("FunctionArn"), "Qualifier": "live", "StatementId": "account-210987654321"}
    functions.remove_permission(**permission)


def an_organization_may_call_live():
    assert update(OrganizationId="o-0123456789") == "UPDATE_COMPLETE"
    assert live_admits("210987654321", "o-0123456789")
    assert not live_admits("210987654321", "o-9876543210") and not live_admits("210987654321")


def an_agent_in_another_account_assumes_a_role():
    partner = boto3.Session("210987654321", "root")
    role = "arn:aws:iam::123456789012:role/callers"
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "arn:aws:iam::210987654321:root"}}
    iam = boto3.client("iam")
    iam.create_role(RoleName="callers", AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": trust}))
    keys = user("partner", "sts:AssumeRole", role, partner).get_credentials()
    profile = f"[profile broker]\nrole_arn = {role}\nsource_profile = own\nregion = us-east-1\n"
    own = f"[profile own]\naws_access_key_id = {keys.access_key}\naws_secret_access_key = {keys.secret_key}\n"
    with tempfile.NamedTemporaryFile("w") as config:
        config.write(profile + own)
        config.flush()
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        kept |= {"AWS_CONFIG_FILE": config.name, "AWS_PROFILE": "broker", "TOKEN_BROKER_FUNCTION": output("LiveAliasArn")}
        kept |= {"AWS_ENDPOINT_URL": os.environ["AWS_ENDPOINT_URL"], "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}
        ask = ["target/debug/token-broker-agent", "token", "--raw"]
        refused = subprocess.run(ask, env=kept, capture_output=True, text=True)
        assert refused.returncode and "AccessDenied" in refused.stderr, refused
        statement = {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": output("LiveAliasArn")}
        policy = json.dumps({"Version": "2012-10-17", "Statement": statement})
        iam.put_role_policy(RoleName="callers", PolicyName="live", PolicyDocument=policy)
        answered = subprocess.run(ask, env=kept, capture_output=True, text=True, check=True)
        assert answered.stdout.strip() == invoke("live", {})[1]["access_token"]


def a_wrong_parameter_reaches_no_caller():
    before = versions()
    state = update(Callers='[{"caller":"direct:live","accounts":["*"],"actions":["tokn"]}]')
    assert state == "UPDATE_ROLLBACK_COMPLETE", state
    events = cloudformation.describe_stack_events(StackName=NAME)["StackEvents"]
    reasons = [each.get("ResourceStatusReason", "") for each in events if each["LogicalResourceId"] == "VersionCheck"]
    assert any("BROKER_CALLERS" in reason for reason in reasons), reasons
    moved = {name for name, version in versions().items() if version != before[name]}
    assert moved <= {"candidate"}, moved
    assert invoke("live", {})[0] is None


def the_aliases_go_back_by_hand():
    now = versions()["live"]
    numbers = [each["Version"] for each in functions.list_versions_by_function(FunctionName=output("FunctionArn"))["Versions"]]
    earlier = max((number for number in numbers if number.isdigit() and int(number) < int(now)), key=int)
    for name in ("live", "http", "operator", "schedule"):
        functions.update_alias(FunctionName=output("FunctionArn"), Name=name, FunctionVersion=earlier)
    assert invoke("live", {})[0] is None
    assert invoke("schedule", {"action": "maintain"})[0] is None


def the_logs_and_their_key_outlive_the_stack():
    table, key, function = resource("TokenTable"), resource("Key"), output("FunctionArn")
    groups = {output("LogGroupName"), output("ApiLogGroupName")}
    cloudformation.delete_stack(StackName=NAME)
    cloudformation.get_waiter("stack_delete_complete").wait(StackName=NAME, WaiterConfig={"Delay": 1})
    kept = {each["logGroupName"] for each in logs.describe_log_groups()["logGroups"]}
    assert groups <= kept, (groups, kept)
    assert boto3.client("kms").describe_key(KeyId=key)["KeyMetadata"]["KeyState"] == "Enabled"
    assert table not in boto3.client("dynamodb").list_tables()["TableNames"]
    assert function not in [each["FunctionArn"] for each in functions.list_functions()["Functions"]]


CHECKS = [
    a_caller_gets_a_token_through_live_and_nothing_else,
    each_alias_refuses_what_is_not_its_own,
    the_api_serves_those_who_sign_and_may,
    the_schedule_runs_maintenance,
    the_log_has_the_record_and_the_alarms_their_metrics,
    another_parameter_moves_all_aliases_to_a_new_version,
    a_page_arrives_and_a_ticket_does_not,
    the_documents_rule_takes_accounts_that_break,
    another_account_needs_the_pages_permission,
    an_organization_may_call_live,
    an_agent_in_another_account_assumes_a_role,
    a_wrong_parameter_reaches_no_caller,
    the_aliases_go_back_by_hand,
    the_logs_and_their_key_outlive_the_stack,
]

if __name__ == "__main__":
    if sys.argv[1:] == ["list"]:
        print(*(check.__name__ for check in CHECKS), sep="\n")
    else:
        next(check for check in CHECKS if check.__name__ == sys.argv[1])()
