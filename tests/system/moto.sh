# All integration tests again, on moto's DynamoDB and Secrets Manager: real processes of the function, conditional
# writes, faults in front of the services, rotation through PutSecretValue.
# shellcheck shell=bash

need "install moto" venv moto 'moto[dynamodb,secretsmanager]==5.2.5' flask==3.1.3 flask-cors==6.0.5
need "build the function and the tests" cargo test --quiet --locked --test integration --no-run

background moto "$SYSTEM_DIR/moto/bin/moto_server" --port 0
need "start moto" wait_for 60 grep -q 'Running on' "$LOGS/moto.log"
moto_url=$(sed -n 's/.*Running on \(http[^ ]*\).*/\1/p' "$LOGS/moto.log")

integration_tests() {
    BROKER_TEST_AWS_ENDPOINT=$moto_url cargo test --locked --test integration | tee "$LOGS/moto-tests.log"
}
check "moto: every integration test" integration_tests

# Each test that needs the services has created its own table and secret there.
tables() {
    "$SYSTEM_DIR/moto/bin/python" - "$moto_url" <<'PYTHON'
import sys
import boto3

dynamodb = boto3.client("dynamodb", endpoint_url=sys.argv[1], region_name="us-east-1",
                        aws_access_key_id="local", aws_secret_access_key="local")
pages = dynamodb.get_paginator("list_tables").paginate()
print(sum(len(page["TableNames"]) for page in pages))
PYTHON
}
tests=$(sed -n 's/^test result: .* \([0-9]*\) passed.*/\1/p' "$LOGS/moto-tests.log")
tables=$(tables)
say "${tests:-0} tests passed, on ${tables:-0} tables of moto's"
check "moto: the tests ran" [ "${tests:-0}" -gt 0 ]
check "moto: the tests used it" [ "${tables:-0}" -gt 0 ]
