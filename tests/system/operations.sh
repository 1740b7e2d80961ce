# Runs the commands of docs/OPERATIONS.md and docs/runbooks unchanged against the local stack. Those that need AWS are
# marked bash there, the others sh.
# shellcheck shell=bash

need "installing the AWS CLI" aws_cli
need "starting the local stack" start_local
set -a
# shellcheck source=/dev/null
. "$LOCAL_ENV"
set +a
export AWS_ENDPOINT_URL_LAMBDA=$BROKER_URL

# commands FILE: prints its blocks for the local stack in order. Blocks in a list are indented.
commands() { awk '/^ *```sh$/ { on = 1; next } /^ *```$/ { on = 0 } on' "$1"; }

# The definitions that the pages assume.
cat >"$SYSTEM_DIR/operations/prelude.sh" <<'END'
set -euo pipefail
OPERATOR=token-broker:operator LIVE=token-broker:live TABLE=$BROKER_TABLE
export EMAIL=local@example.invalid PASSWORD=local-only
END

# run_page FILE: runs its commands after those of OPERATIONS.md that define functions. Fails on the broker's errors too.
run_page() {
    local script=$SYSTEM_DIR/operations/page.sh
    {
        cat "$SYSTEM_DIR/operations/prelude.sh"
        [ "$1" = docs/OPERATIONS.md ] || commands docs/OPERATIONS.md | sed -n '/^broker() {$/,/^}$/p'
        commands "$1"
    } >"$script"
    (cd "$SYSTEM_DIR/operations" && bash "$script") |
        tee "$SYSTEM_DIR/operations/printed" && ! grep -q errorType "$SYSTEM_DIR/operations/printed"
}

for page in docs/OPERATIONS.md docs/runbooks/*.md; do
    [ -n "$(commands "$page")" ] || continue
    check "operations: $(basename "$page" .md)" run_page "$page"
done
# Every token in the logs is masked, and there is one.
tokens_are_masked() {
    local found
    found=$(grep -h access_token "$LOGS"/operations-*.log) && ! sed 's/"access_token":"…"//g' <<<"$found" | grep access_token
}
check "operations: a token is not printed" tokens_are_masked
