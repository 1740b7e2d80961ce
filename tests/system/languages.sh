# The examples of callers in other languages, as they are in examples/agent, except for the agent's address.
# shellcheck shell=bash

EXAMPLES=$SYSTEM_DIR/languages

examples() {
    rm -rf "$EXAMPLES" && mkdir -p "$EXAMPLES" && cp -R examples/agent/. "$EXAMPLES" && sed -i "s|http://127.0.0.1:2774|$AGENT_URL|" "$EXAMPLES"/*
}
# gets_both COMMAND...: a program prints the users, and then a token.
gets_both() {
    local printed
    printed=$(GUARD=$GUARD_TOKEN "$@") && grep -q '"result":"success"' <<<"$printed" &&
        grep -q '"token_type":"Bearer"' <<<"$printed"
}

need "starting the local stack" start_local
need "the examples" examples
check "languages: the shell calls the API and gets a token" gets_both bash -eu "$EXAMPLES/calls.sh"
if command -v java >/dev/null || { may_install && apt_install default-jdk-headless; } >"$LOGS/java.log" 2>&1; then
    check "languages: Java calls the API and gets a token" gets_both java "$EXAMPLES/Calls.java"
else
    skip "languages: Java" "it is not installed and cannot be installed"
fi
if command -v go >/dev/null || { may_install && apt_install golang-go; } >"$LOGS/go.log" 2>&1; then
    check "languages: Go calls the API and gets a token" gets_both env GOCACHE="$EXAMPLES/cache" go run "$EXAMPLES/calls.go"
else
    skip "languages: Go" "it is not installed and cannot be installed"
fi
