# Shared by the parts of tests/system.sh: counting, installing, and starting and ending processes.
# shellcheck shell=bash

SYSTEM_DIR=$PWD/target/system   # tools, logs and other files; may be deleted at any time
RESULTS=$SYSTEM_DIR/results     # a line for each check: passed, failed or skipped, a tab, and its name
LOGS=$SYSTEM_DIR/logs           # what each check and each server has printed
MADE=$SYSTEM_DIR/made           # links to what this run has built and tried, for later parts

begin_run() {
    rm -rf "$MADE" && mkdir -p "$SYSTEM_DIR" "$LOGS" "$MADE"
    : >"$RESULTS"
    # Requests to this machine use no proxy.
    export NO_PROXY=127.0.0.1,localhost no_proxy=127.0.0.1,localhost
}

# Prints the totals, and ends the script.
end_run() {
    local passed failed skipped
    passed=$(grep -c '^passed' "$RESULTS")
    failed=$(grep -c '^failed' "$RESULTS")
    skipped=$(grep -c '^skipped' "$RESULTS")
    printf '\n'
    grep '^failed' "$RESULTS" | sed 's/^failed\t/  failed: /'
    grep '^skipped' "$RESULTS" | sed 's/^skipped\t/  skipped: /'
    [ "$skipped" = 0 ] || echo "$skipped skipped"
    echo "in $((SECONDS / 60)) min $((SECONDS % 60)) s"
    echo "$passed passed, $failed failed"
    [ "$failed" = 0 ] && { [ "$skipped" = 0 ] || [ "${SYSTEM_REQUIRE_ALL:-}" != 1 ]; }
    exit
}

# Runs one part in its own shell, so that what it starts ends with it.
run_part() {
    local began=$SECONDS recorded
    printf '\n== %s\n' "$1"
    recorded=$(wc -l <"$RESULTS")
    bash -n "tests/system/$1.sh" && (
        STARTED=()
        trap end_started EXIT
        # shellcheck source=/dev/null
        . "tests/system/$1.sh"
        true # a check that has failed is counted already
    ) || record failed "$1: the part ended early"
    [ "$(wc -l <"$RESULTS")" -gt "$recorded" ] || record failed "$1: the part checks nothing"
    printf '   (%s s)\n' $((SECONDS - began))
}

say() { printf '   %s\n' "$*"; }

record() {
    printf '%s\t%s\n' "$1" "$2" >>"$RESULTS"
    printf '%-8s %s\n' "$1" "$2"
}

# check NAME COMMAND...: passes if the command exits with 0. Otherwise shows the end of its output.
check() {
    local name=$1 log
    shift
    log=$LOGS/$(tr -cs 'A-Za-z0-9' '-' <<<"$name" | cut -c1-80).log
    : >"$log"
    if "$@" >>"$log" 2>&1; then
        record passed "$name"
    else
        record failed "$name"
        tail -n 40 "$log" | sed 's/^/   | /'
        return 1
    fi
}

# skip NAME REASON: records a check that cannot run here.
skip() { record skipped "$1: $2"; }

# need NAME COMMAND...: prepares something that the part requires, and names it.
need() {
    local what=$1 log
    shift
    say "$what"
    log=$LOGS/$(tr -cs 'A-Za-z0-9' '-' <<<"$what" | cut -c1-80).log
    "$@" >"$log" 2>&1 || {
        tail -n 40 "$log" | sed 's/^/   | /'
        record failed "$what"
        exit 0
    }
}

# background NAME COMMAND...: starts a server that ends with the part. It prints to $LOGS/NAME.log.
background() {
    local name=$1
    shift
    # Emptied before the server starts, so that no caller of wait_for finds a line of an earlier run.
    : >"$LOGS/$name.log"
    "$@" >>"$LOGS/$name.log" 2>&1 </dev/null &
    STARTED+=($!)
}

# Asks the servers to end, and kills those that do not end in time.
end_started() {
    [ ${#STARTED[@]} != 0 ] || return 0
    kill "${STARTED[@]}"
    (sleep 20; kill -9 "${STARTED[@]}") &
    wait "${STARTED[@]}"
    kill $!
    STARTED=()
} >/dev/null 2>&1

# wait_for SECONDS COMMAND...: until the command succeeds.
wait_for() {
    local until=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $until ] || { echo "it took too long: $*"; return 1; }
        sleep 0.1
    done
}

# venv NAME PACKAGE...: a Python virtual environment at $SYSTEM_DIR/NAME with these packages, made once.
venv() {
    local dir=$SYSTEM_DIR/$1
    shift
    [ "$(cat "$dir/.packages" 2>/dev/null)" = "$*" ] && return
    rm -rf "$dir"
    python3 -m venv "$dir" || { may_install && apt_install python3-venv && python3 -m venv "$dir"; } || return
    "$dir/bin/pip" install --quiet --disable-pip-version-check "$@" && echo "$*" >"$dir/.packages"
}

# node_modules NAME PACKAGE...: a folder $SYSTEM_DIR/NAME-node with these packages, made once. If Node is missing and
# may be installed, it comes from Debian.
node_modules() {
    local dir=$SYSTEM_DIR/$1-node
    shift
    [ "$(cat "$dir/.packages" 2>/dev/null)" = "$*" ] && return
    command -v npm >/dev/null || { may_install && apt_install nodejs npm; } || return
    rm -rf "$dir"
    npm install --prefix "$dir" --no-package-lock --no-audit --no-fund "$@" && echo "$*" >"$dir/.packages"
}

# cargo_tool NAME VERSION: a cargo subcommand from crates.io, built once. Building it takes longer than running it, so
# it is not optimised.
cargo_tool() {
    export PATH=$SYSTEM_DIR/tools/bin:$PATH
    CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR=$SYSTEM_DIR/tools/build \
        cargo install --quiet --locked --profile dev --version "=$2" --root "$SYSTEM_DIR/tools" "$1"
}

# document_block LANGUAGE TEXT [PAGE]: the block of the page (docs/API.md) in this language that contains this text, to
# be run unchanged.
document_block() {
    awk -v first="\`\`\`$1" -v text="$2" '
        $0 == first { inside = 1; block = ""; next }
        inside && /^```$/ { inside = 0; if (index(block, text)) printf "%s", block }
        inside { block = block $0 "\n" }' "${3:-docs/API.md}"
}

# The SAM CLI.
sam_tools() {
    venv sam aws-sam-cli==1.170.0 || return
    export PATH=$SYSTEM_DIR/sam/bin:$PATH SAM_CLI_TELEMETRY=0
}

# The tools that make the template of a release.
template_tools() { venv sam-translator aws-sam-translator==1.115.0 boto3==1.43.108 PyYAML==6.0.4; }

# The AWS CLI, as `aws`. PyPI has version 1, which sends payloads unchanged and has no option for that.
aws_cli() {
    venv operations awscli==1.45.11 || return
    mkdir -p "$SYSTEM_DIR/aws-cli"
    cat >"$SYSTEM_DIR/aws-cli/aws" <<END
#!/usr/bin/env bash
arguments=()
while [ \$# -gt 0 ]; do
    if [ "\$1" = --cli-binary-format ]; then shift 2; else arguments+=("\$1"); shift; fi
done
exec "$SYSTEM_DIR/operations/bin/aws" "\${arguments[@]}"
END
    chmod +x "$SYSTEM_DIR/aws-cli/aws"
    export PATH=$SYSTEM_DIR/aws-cli:$PATH AWS_PAGER=''
}

# cargo-lambda, and Zig as its linker: the linker of this machine knows neither the processor nor the C library that the
# function runs on.
cargo_lambda_tools() {
    venv cargo-lambda cargo-lambda==1.9.2 ziglang==0.15.2 pyelftools==0.33 || return
    export PATH=$SYSTEM_DIR/cargo-lambda/bin:$PATH
    export CARGO_ZIGBUILD_CACHE_DIR=$SYSTEM_DIR/zig
    export ZIG_GLOBAL_CACHE_DIR=$SYSTEM_DIR/zig ZIG_LOCAL_CACHE_DIR=$SYSTEM_DIR/zig
}

may_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

apt_install() {
    { [ -n "$(find /var/lib/apt/lists -name '*Packages*' -mmin -1440 -print -quit)" ] || apt-get update -q; } &&
        DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$@"
}

# A free port of loopback.
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# The stock OAuth 2.0 clients.
oauth_clients_in_python() {
    venv clients authlib==1.9.9 oauthlib==4.0.1 requests==2.34.2 requests-aws4auth==1.4.0 requests-oauthlib==2.0.0
}
oauth_clients_in_node() { node_modules clients simple-oauth2@5.1.0; }

# start_local [OPTION...]: `cargo local` on free ports. Sets BROKER_URL, CONVIRZA_URL, and the agent's AGENT_URL,
# AGENT_PORT and GUARD_TOKEN, and writes the variables that a function needs to use its services to $LOCAL_ENV, as lines
# NAME=value.
start_local() {
    LOCAL_ENV=$SYSTEM_DIR/local.env
    local log=$LOGS/local.log
    cargo build --quiet --locked --package token-broker-local || return
    background local env -u TOKEN_BROKER_PORT target/debug/token-broker-local --port 0 "$@"
    wait_for 30 grep -q '(UTC):$' "$log" || return
    BROKER_URL=$(sed -n 's/^  the broker  *\([^ ]*\).*/\1/p' "$log")
    CONVIRZA_URL=$(sed -n 's/^  Convirza  *\([^ ]*\).*/\1/p' "$log")
    AGENT_URL=$(sed -n 's/^  the agent  *\([^ ]*\).*/\1/p' "$log")
    AGENT_PORT=${AGENT_URL##*:}
    GUARD_TOKEN=$(sed -n 's/^  the agent .*TOKEN_BROKER_TOKEN=//p' "$log")
    sed -n 's/^  export //p' "$log" >"$LOCAL_ENV"
}
