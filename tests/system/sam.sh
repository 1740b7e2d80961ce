# The SAM CLI: the function from `sam build`, on the SAM CLI's emulators of Lambda and API Gateway.
# shellcheck shell=bash

. tests/system/docker_engine.sh

trap end_engine EXIT
say "a Docker engine"
if ! docker_engine >"$LOGS/docker-engine.log" 2>&1; then
    tail -n 5 "$LOGS/docker-engine.log" | sed 's/^/   | /'
    skip "sam: build, local invoke, start-api and start-lambda" "no Docker engine runs here, and none could be started"
    return
fi
[ -z "${ENGINE:-}" ] || say "none was running, so this one is ours"

need "the SAM CLI" sam_tools
need "cargo-lambda" cargo_lambda_tools # after it: cargo-lambda looks for Zig with the first python3 of the PATH
PYTHON=$SYSTEM_DIR/sam/bin/python
PARAMETERS=(--parameter-overrides "Architecture=$ARCHITECTURE")
# Faster to build than the deployed function, which cargo_lambda.sh builds.
export CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
check "sam build" sam build "${PARAMETERS[@]}" || return 0

if ! image_is_here >"$LOGS/image.log" 2>&1; then
    say "$IMAGE cannot be pulled: a stand-in with this machine's C library takes its place"
    STAND_IN=1
    need "the stand-in" stand_in_image "$PWD/.aws-sam/build/BrokerFunction/bootstrap"
fi

need "the local stack" start_local --bind "$(gateway)"
# What a user pastes, except the credentials: the SAM CLI would ask the real STS whose they are.
set -a
# shellcheck source=/dev/null
. "$LOCAL_ENV"
set +a
unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_PROFILE
export AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null
LOCAL=("${PARAMETERS[@]}" --skip-pull-image --add-host localhost:host-gateway)

upstream_saw() { curl -fsS "$CONVIRZA_URL/_emulator/observed" | "$PYTHON" tests/system/sam_answers.py upstream "$@"; }

# Every event, in the order of their names.
invoke() {
    sam local invoke BrokerFunction --event "events/$1.json" "${LOCAL[@]}" >"$SYSTEM_DIR/answer.json" &&
        "$PYTHON" tests/system/sam_answers.py event "$1" <"$SYSTEM_DIR/answer.json"
}

for event in events/*.json; do
    event=$(basename "$event" .json)
    check "sam local invoke: events/$event.json" invoke "$event"
done
# At first there is no token, then direct-revoke ends one; and there are two accounts.
check "sam local invoke: three logins in all" upstream_saw logins=3 refreshes=0 revocations=2

# serve COMMAND: starts one of the SAM CLI's servers, with a warm container. Sets PORT.
serve() {
    PORT=$(free_port) || return
    background "sam-$1" sam local "$1" --port "$PORT" --warm-containers LAZY "${LOCAL[@]}"
    wait_for 60 grep -q 'Running on' "$LOGS/sam-$1.log"
}

# It removes its container, so it has to end before the engine.
end_server() {
    kill "${STARTED[-1]}" || return
    wait "${STARTED[-1]}"
    unset 'STARTED[-1]'
}

# http EXPECTED PATH [OPTION...]: whether curl gets what sam_answers.py expects.
http() {
    local expected=$1 path=$2
    shift 2
    curl -sS --max-time 60 --include "$@" "http://127.0.0.1:$PORT$path" | tr -d '\r' | tee -a /dev/stderr |
        "$PYTHON" tests/system/sam_answers.py http "$expected"
}

# The SAM CLI checks no signatures and presents no identity.
export BROKER_CALLERS='[{"caller":"anonymous","accounts":["default"],"actions":["token","status"]}]'
need "sam local start-api" serve start-api
JSON=(--header 'content-type: application/json')
check "sam local start-api: POST /token with JSON" http token /token "${JSON[@]}" --data '{"min_ttl_seconds":120}'
check "sam local start-api: POST /token without a body" http token /token --request POST
check "sam local start-api: POST /token with a form" http token /token --data grant_type=client_credentials
check "sam local start-api: GET /status" http status '/status?account=default'
check "sam local start-api: an unknown field" http invalid_request /token "${JSON[@]}" --data '{"colour":"red"}'
check "sam local start-api: another grant" http unsupported_grant_type /token --data grant_type=password
check "sam local start-api: an account that no rule allows" http access_denied '/status?account=emea'
check "sam local start-api: an action that no rule allows" http access_denied /refresh "${JSON[@]}" --data '{}'
check "sam local start-api: an unknown path" http not_routed /nowhere
check "sam local start-api: a wrong method" http not_routed /token
need "end sam local start-api" end_server
unset BROKER_CALLERS

need "sam local start-lambda" serve start-lambda
check "sam local start-lambda: boto3" "$PYTHON" tests/system/sam_answers.py boto3 "http://127.0.0.1:$PORT"
need "end sam local start-lambda" end_server

check "sam: no further login" upstream_saw logins=3 refreshes=0 revocations=2
