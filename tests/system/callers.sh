# The callers that docs/API.md shows: a Lambda in Python and one in Node.js that invoke the broker directly, and curl
# with a signed request.
# shellcheck shell=bash

callers=tests/system/callers
need "installing boto3" venv callers boto3==1.44.5
need "installing the AWS SDK for JavaScript" node_modules callers @aws-sdk/client-lambda@3.950.0
# A module finds its packages above its own folder.
cp examples/callers/node/caller.mjs "$callers/node_caller.mjs" "$SYSTEM_DIR/callers-node/"

python="$SYSTEM_DIR/callers/bin/python"
# A caller that never gives up should fail, not hang.
python_caller() { timeout 60 "$python" "$callers/python_caller.py" "PythonCaller.test_$1"; }
node_caller() { timeout 60 node "$SYSTEM_DIR/callers-node/node_caller.mjs" "$1"; }

# As in the cloud, the callers know only the broker's name: the SDK's own variable leads them to this one.
export AWS_SESSION_TOKEN='' PYTHONDONTWRITEBYTECODE=1
unset AWS_REGION AWS_DEFAULT_REGION AWS_PROFILE
point_callers_at_it() {
    set -a
    # shellcheck source=/dev/null
    . "$LOCAL_ENV"
    set +a
    export AWS_ENDPOINT_URL_LAMBDA=$BROKER_URL CONVIRZA_URL CONVIRZA_API_URL=$CONVIRZA_URL/v3
    export TOKEN_BROKER_FUNCTION=token-broker:live
}

for caller in python_caller node_caller; do
    need "starting the local stack" start_local
    point_callers_at_it
    for promise in keeps_its_token_until_it_expires reports_a_refused_token_once gives_up_after_the_second_401 \
        raises_the_brokers_error_with_its_code; do
        check "$caller ${promise//_/ }" "$caller" "$promise"
    done
done

# The lines of docs/API.md, unchanged.
python_lines() { "$python" -c "import boto3, json, os
$(document_block python boto3.client)
assert answer['token_type'] == 'Bearer'"; }
node_lines() {
    cat >"$SYSTEM_DIR/callers-node/readme.mjs" <<END
import { InvokeCommand, LambdaClient } from "@aws-sdk/client-lambda";
$(document_block js InvokeCommand)
if (answer.token_type !== "Bearer") throw new Error("no token");
END
    node "$SYSTEM_DIR/callers-node/readme.mjs"
}
curl_line=$(document_block sh --aws-sigv4)
curl_lines() {
    local printed
    printed=$(API_URL=$BROKER_URL bash -c "$curl_line")
    echo "$printed"
    grep -q '"access_token":"' <<<"$printed"
}

need "starting the local stack" start_local
point_callers_at_it
check "the document's lines in Python get a token" python_lines
check "the document's lines in Node.js get a token" node_lines
check "the document's curl line gets a token" curl_lines
check "its signature is botocore's, with a user's key" "$python" "$callers/signature.py" "$curl_line"
AWS_SESSION_TOKEN=a-session check "its signature is botocore's, with a session's key" \
    "$python" "$callers/signature.py" "$curl_line"
