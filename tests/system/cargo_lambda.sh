# cargo-lambda: its emulator of Lambda, and the package that it builds for deployment.
# shellcheck shell=bash

. tests/system/arm64_std.sh

need "cargo-lambda" cargo_lambda_tools
need "the local stack" start_local

# start_emulator NAME OPTION...: `cargo lambda watch`. Sets EMULATOR to its port.
start_emulator() {
    local name=$1
    shift
    EMULATOR=$(free_port) || return
    background "$name" cargo lambda watch --invoke-address 127.0.0.1 --invoke-port "$EMULATOR" --env-file "$LOCAL_ENV" \
        --ignore-changes --bin token-broker "$@"
    wait_for 60 grep -q "starting Runtime server" "$LOGS/$name.log"
}

# invoke EVENT: prints the function's answer to this file of events/.
invoke() {
    timeout 60 cargo lambda invoke --invoke-address 127.0.0.1 --invoke-port "$EMULATOR" --data-file "events/$1.json"
}

generation() { python3 -c 'import json, sys; print(json.load(sys.stdin)["generation"])'; }

# The function and `cargo local` share a table, so they hand out the same pair.
answers_the_token_of_the_table() {
    local invoked served
    invoked=$(invoke direct-token | tee -a /dev/stderr | generation) || return
    served=$(curl -fsS -X POST "$BROKER_URL/token" | generation) && [ "$invoked" = "$served" ]
}

answers_200() { invoke "$1" | tee -a /dev/stderr | grep -c '"statusCode":200'; }

maintains() { invoke schedule-maintain | tee -a /dev/stderr | grep -c '"renewed":'; }

refuses_anonymous_http() {
    curl -sS -w '\n%{http_code}\n' -X POST "http://127.0.0.1:$EMULATOR/token" | tee -a /dev/stderr | grep -qx 403
}

need "build the function" cargo build --quiet --locked --bin token-broker
need "cargo lambda watch" start_emulator watch
check "cargo lambda: watch and invoke return a token" answers_the_token_of_the_table
check "cargo lambda: an event of an HTTP API" answers_200 http-token
check "cargo lambda: an event of a REST API" answers_200 rest-token-form
check "cargo lambda: the event of the schedule" maintains
check "cargo lambda: a request without an IAM identity is refused" refuses_anonymous_http

# Run as by `sam build`: resolved with the development crates, the function's dependencies would get their features too.
resolves_the_features_of_the_function_alone() {
    local shim=$SYSTEM_DIR/shim cargo
    cargo=$(command -v cargo)
    mkdir -p "$shim"
    # shellcheck disable=SC2016 # this is the script's own "$@"
    printf '#!/bin/sh\n[ "$1" = build ] || exec "%s" "$@"\necho "cargo $*"\nexit 1\n' "$cargo" >"$shim/cargo"
    chmod +x "$shim/cargo"
    { CARGO=$shim/cargo PATH=$shim:$PATH cargo-lambda lambda build --release --skip-target-check --bin token-broker || true; } |
        tee -a /dev/stderr | grep -c -- '--package token-broker '
}

says_why_it_does_not_start() { invoke direct-token | tee -a /dev/stderr | grep -c BROKER_LOGIN_BUDGET; }

need "cargo lambda watch, with a wrong setting" start_emulator wrong --env-var BROKER_LOGIN_BUDGET=99
check "cargo lambda: a wrong configuration is reported to the caller" says_why_it_does_not_start

check "cargo lambda: build resolves the features of the function alone" resolves_the_features_of_the_function_alone
need "the standard library for arm64" arm64_std
check "cargo lambda: build --release --arm64 --output-format zip" \
    cargo lambda build --locked --release --arm64 --output-format zip --lambda-dir "$SYSTEM_DIR/lambda" \
    --skip-target-check --bin token-broker || return
PACKAGE=$SYSTEM_DIR/lambda/token-broker/bootstrap.zip
check "cargo lambda: Lambda accepts the zip" "$SYSTEM_DIR/cargo-lambda/bin/python" tests/system/package.py "$PACKAGE" arm64

# The program of the zip itself, on an emulated processor if necessary.
start_package() {
    start_emulator package-emulator --only-lambda-apis || return
    python3 -m zipfile -e "$PACKAGE" "$SYSTEM_DIR/package" && chmod +x "$SYSTEM_DIR/package/bootstrap" || return
    # shellcheck disable=SC2016,SC2046,SC2086 # $LATEST is a name, and the values have no blanks
    background package env $(cat "$LOCAL_ENV") AWS_LAMBDA_RUNTIME_API="http://127.0.0.1:$EMULATOR/.rt" \
        AWS_LAMBDA_FUNCTION_NAME=token-broker AWS_LAMBDA_FUNCTION_VERSION='$LATEST' AWS_LAMBDA_FUNCTION_MEMORY_SIZE=256 \
        $QEMU "$SYSTEM_DIR/package/bootstrap"
}

if emulate_arm64 >"$LOGS/qemu.log" 2>&1; then
    need "run the program of the zip" start_package
    check "cargo lambda: the program of the zip returns a token" answers_the_token_of_the_table &&
        ln -s "$PACKAGE" "$MADE/arm64.zip"
else
    skip "cargo lambda: the program of the zip returns a token" "nothing here runs programs for arm64"
fi
