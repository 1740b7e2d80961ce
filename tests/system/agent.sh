# The agent: our clients, stock OAuth 2.0 clients and curl against the agent of `cargo local`, given only its address
# and guard token; and the extension with a Python and a Node.js function, on AWS's runtime interface emulator.
# shellcheck shell=bash

agent=tests/system/agent
need "installing Authlib and requests-oauthlib" oauth_clients_in_python
need "installing simple-oauth2" oauth_clients_in_node
# A module finds its packages above its own folder.
node_folder=$SYSTEM_DIR/clients-node
cp "$agent"/*.mjs "$node_folder/"
rm -rf "$node_folder/node_modules/token-broker"
cp -R clients/node "$node_folder/node_modules/token-broker"

export AUTHLIB_INSECURE_TRANSPORT=1 OAUTHLIB_INSECURE_TRANSPORT=1 # without these, both libraries require https
export AGENT_URL CONVIRZA_URL GUARD_TOKEN PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$PWD/clients/python/src
unset AWS_SESSION_TOKEN AWS_CONTAINER_AUTHORIZATION_TOKEN

python_client() { "$SYSTEM_DIR/clients/bin/python" "$agent/client.py"; }
node_client() { node "$node_folder/client.mjs"; }
# One stack for each, because the broker does not log in repeatedly for sessions that are revoked within a minute.
for client in python_client node_client; do
    need "starting the local stack" start_local
    TOKEN_BROKER_PORT=$AGENT_PORT TOKEN_BROKER_TOKEN=$GUARD_TOKEN \
        check "agent: ${client/_/ } gets, keeps and reports tokens" "$client"
done

need "starting the local stack" start_local
authlib() { "$SYSTEM_DIR/clients/bin/python" "$agent/oauth_clients.py" "Authlib.test_$1"; }
requests_oauthlib() { "$SYSTEM_DIR/clients/bin/python" "$agent/oauth_clients.py" "RequestsOauthlib.test_$1"; }
simple_oauth2() { node "$node_folder/simple_oauth2_client.mjs" "$1"; }
for client in authlib requests_oauthlib simple_oauth2; do
    for promise in obtains_a_token with_another_secret_is_refused; do
        check "agent: $client ${promise//_/ }" "$client" "$promise"
    done
done

# The lines of docs/API.md, except for the API's address.
document_lines() {
    "$SYSTEM_DIR/clients/bin/python" -c "import os
from authlib.integrations.requests_client import OAuth2Session
AGENT_URL, guard_token = os.environ['AGENT_URL'], os.environ['GUARD_TOKEN']
$(document_block python OAuth2Session | sed "s|https://platform-api.convirza.com|$CONVIRZA_URL|")
assert session.token['token_type'] == 'Bearer'"
}
check "agent: the document's lines with Authlib get a token" document_lines

# status EXPECTED PATH [OPTION...]: whether the agent answers with this status.
status() {
    local expected=$1 path=$2
    shift 2
    [ "$(curl -sS -o /dev/stderr -w '%{http_code}' "$AGENT_URL$path" "$@")" = "$expected" ]
}
USERS=/proxy/default/v3/users/list
generation() {
    curl -fsS -D - -o /dev/null "$AGENT_URL$USERS" -H "X-Token-Broker-Token: $GUARD_TOKEN" |
        tr -d '\r' | sed -n 's/^x-token-broker-generation: //p'
}
heals() {
    local before after
    before=$(generation) && curl -fsS -X POST "$CONVIRZA_URL/_emulator/revoke-sessions" && after=$(generation) &&
        echo "$before, then $after" && [ "$after" -gt "$before" ]
}
check "agent: curl calls Convirza through the proxy" status 200 $USERS -H "X-Token-Broker-Token: $GUARD_TOKEN"
check "agent: curl does not notice a revoked token" heals
for path in $USERS /v1/token; do
    check "agent: the header of AWS's own extension opens $path" \
        status 200 "$path" -H "X-Aws-Parameters-Secrets-Token: $GUARD_TOKEN"
    check "agent: without a guard token there is no $path" status 401 "$path"
    check "agent: a forwarded request gets no $path" \
        status 403 "$path" -H "X-Token-Broker-Token: $GUARD_TOKEN" -H 'X-Forwarded-For: 192.0.2.1'
done

# The emulator looks for extensions in /opt, so it gets its own /opt.
WITH_OPT=$SYSTEM_DIR/opt
# shellcheck disable=SC2016 # the inner shell's. No function: the emulator has to be the process that ends with the part
own_opt=(--mount sh -c 'mount --bind "$1" /opt && shift && exec "$@"' sh "$WITH_OPT")
if [ "$(id -u)" = 0 ]; then own_opt=(unshare "${own_opt[@]}"); else own_opt=(unshare --map-root-user "${own_opt[@]}"); fi
extension() {
    cargo build --quiet --locked --package token-broker-agent && rm -rf "$WITH_OPT" &&
        mkdir -p "$WITH_OPT/extensions" && cp target/debug/token-broker-agent "$WITH_OPT/extensions/"
}

need "the runtime interface emulator, which comes with the SAM CLI" sam_tools
case $(uname -m) in
    aarch64 | arm64) processor=arm64 ;;
    *) processor=x86_64 ;;
esac
EMULATOR=$(echo "$SYSTEM_DIR"/sam/lib/python*/site-packages/samcli/local/rapid/aws-lambda-rie-$processor)
need "the extension" extension
if ! "${own_opt[@]}" true >"$LOGS/own-opt.log" 2>&1; then
    skip "agent: the extension beside functions in Python and Node.js" "no process can have its own /opt here"
    return
fi

# start_function NAME PROGRAM...: a function, and the agent as its extension. Sets INVOKE to its URL.
start_function() {
    local name=$1 bootstrap=$SYSTEM_DIR/$1-bootstrap ports
    shift
    { echo '#!/bin/sh' && printf 'exec' && printf ' "%s"' "$@" && echo; } >"$bootstrap"
    chmod +x "$bootstrap"
    ports=("$(free_port)" "$(free_port)" "$(free_port)")
    INVOKE=http://127.0.0.1:${ports[0]}/2015-03-31/functions/function/invocations
    # The variables that the README names, and what Lambda sets. The session token is the guard token.
    AWS_REGION=us-east-1 AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local AWS_SESSION_TOKEN=local-session \
        AWS_ENDPOINT_URL_LAMBDA=$BROKER TOKEN_BROKER_FUNCTION=token-broker:live CONVIRZA_API_URL=$CONVIRZA_URL \
        TOKEN_BROKER_PORT=${ports[1]} background "$name" "${own_opt[@]}" "$EMULATOR" \
        --runtime-interface-emulator-address "127.0.0.1:${ports[0]}" --runtime-api-address "127.0.0.1:${ports[2]}" \
        "$bootstrap" handler
    wait_for 30 listens "${ports[0]}"
}
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1"); }
invoke() { curl -sS --max-time 60 -X POST "$INVOKE" -d '{}' | tee -a /dev/stderr; }
gets_tokens() {
    local answer
    answer=$(invoke) && [ "$answer" = "$(invoke)" ] &&
        python3 -c 'import json, sys
answer = json.loads(sys.argv[1])
own, proxied = answer["generations"]
assert answer["users"] == "success" and own == proxied' "$answer"
}
is_told_that_the_broker_is_away() { invoke | grep -c 'HTTP Error 503'; }

need "starting the local stack" start_local
functions=(python3 "$PWD/$agent/function.py" node "$node_folder/function.mjs")
for language in python node; do
    BROKER=$BROKER_URL
    need "a function in $language" start_function "function-$language" "$(command -v "${functions[0]}")" "${functions[1]}"
    check "agent: a function in $language gets tokens from its extension" gets_tokens
    check "agent: beside the function in $language, the extension has registered" \
        grep -q 'External agent token-broker-agent .* registered, subscribed to \[SHUTDOWN\]' "$LOGS/function-$language.log"
    functions=("${functions[@]:2}")
done
BROKER=http://127.0.0.1:$(free_port)
need "a function without a broker" start_function function-alone "$(command -v python3)" "$PWD/$agent/function.py"
check "agent: a function starts without a broker, and gets its error" is_told_that_the_broker_is_away
