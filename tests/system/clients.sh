# Stock OAuth 2.0 clients against `POST /token`, given only the URL. They require an id and a secret, which the broker
# ignores: in the deployed API, IAM identifies the caller.
# shellcheck shell=bash

clients=tests/system/clients
need "installing Authlib and requests-oauthlib" oauth_clients_in_python
need "installing simple-oauth2" oauth_clients_in_node
need "building the oauth2 crate's tests" cargo test --quiet --locked --test integration --no-run

# Without these, both libraries require https.
export AUTHLIB_INSECURE_TRANSPORT=1 OAUTHLIB_INSECURE_TRANSPORT=1
export BROKER_URL CONVIRZA_URL PYTHONDONTWRITEBYTECODE=1

authlib() { "$SYSTEM_DIR/clients/bin/python" "$clients/authlib_client.py" "Authlib.test_$1"; }
requests_oauthlib() {
    "$SYSTEM_DIR/clients/bin/python" "$clients/requests_oauthlib_client.py" "RequestsOauthlib.test_$1"
}
simple_oauth2() { node "$SYSTEM_DIR/clients-node/simple_oauth2_client.mjs" "$1"; }
# A module finds its packages above its own folder.
cp "$clients/simple_oauth2_client.mjs" "$SYSTEM_DIR/clients-node/"

# each PROMISE: checks it for every client.
each() {
    local client
    for client in authlib requests_oauthlib simple_oauth2; do
        check "$client ${1//_/ }" "$client" "$1"
    done
}

need "starting the local stack" start_local
each obtains_a_token_and_keeps_it
check "requests_oauthlib signs its request where IAM guards the API" \
    requests_oauthlib signs_its_request_where_iam_guards_the_api
each reports_errors
each reports_an_outage

need "starting a local stack whose tokens live for 5 seconds" start_local --token-lifetime 5
each renews_it_when_it_has_expired

# The crate's checks are tests of this project, against the handler behind the local stack's front.
oauth2_crate() {
    local printed
    printed=$(cargo test --quiet --locked --test integration -- --exact "oauth::$1" 2>&1) &&
        grep -q '1 passed' <<<"$printed" && return
    echo "$printed"
    return 1
}
for test in a_token_is_obtained_cached_and_renewed \
    a_client_may_authenticate_in_the_form_and_send_a_scope \
    an_error_is_a_server_response_with_its_code_and_description; do
    check "oauth2 crate: ${test//_/ }" oauth2_crate "$test"
done
