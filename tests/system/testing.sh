# examples/testing, unchanged: services of a few lines in Python and Node, tested against the local stack. Containers are
# network namespaces here, with the names, arguments and variables of the compose file.
# shellcheck shell=bash

HERE=$SYSTEM_DIR/testing-examples
STACK=token-broker-stack-$$ WORKER=token-broker-worker-$$

examples() {
    rm -rf "$HERE" && cp -R examples/testing "$HERE" && echo '[{"path": "/v3/from-the-file"}]' >"$HERE/routes.json"
}

python_tools() { venv testing httpx==0.28.1 pytest==9.0.2 PyYAML==6.0.3; }

node_tools() {
    command -v npm || { may_install && apt_install nodejs npm; } || return
    mkdir -p "$HERE/node_modules" && cp -R clients/node "$HERE/node_modules/token-broker"
}

# of_compose EXPRESSION: prints a part of the compose file, such as a service's variables as lines NAME=value.
of_compose() { "$SYSTEM_DIR/testing/bin/python" -c "
import sys, yaml
services = yaml.safe_load(open(sys.argv[1]))['services']
print(*$1, sep='\n')" "$HERE/compose.yaml"; }
variables() { of_compose "[f'{name}={value}' for name, value in services['$1']['environment'].items()]"; }

# The network of the stack's container, and that of another container, which knows the stack by its name.
networks() {
    ip netns add "$STACK" && ip netns add "$WORKER" &&
        ip -n "$STACK" link add eth0 type veth peer name eth0 netns "$WORKER" &&
        ip -n "$STACK" address add 192.0.2.1/30 dev eth0 && ip -n "$WORKER" address add 192.0.2.2/30 dev eth0 &&
        mkdir -p "/etc/netns/$WORKER" && echo "192.0.2.1 token-broker-local" >"/etc/netns/$WORKER/hosts" || return
    local namespace link
    for namespace in "$STACK" "$WORKER"; do
        for link in lo eth0; do ip -n "$namespace" link set "$link" up || return; done
    done
}
no_networks() {
    end_started
    ip netns delete "$STACK"
    ip netns delete "$WORKER"
    rm -rf "/etc/netns/$WORKER"
} >/dev/null 2>&1

# Sets PROGRAM: that of the release, if the part `release` has made one in this run.
local_program() {
    PROGRAM=$MADE/local/token-broker-local
    [ ! -e "$PROGRAM" ] || return 0
    PROGRAM=target/debug/token-broker-local
    cargo build --quiet --locked --package token-broker-local
}

# The program with the arguments of the Containerfile and of the compose file.
start_container() {
    local arguments
    local_program || return
    mapfile -t arguments < <(sed -n 's/^ENTRYPOINT //p' crates/local/Containerfile |
        python3 -c 'import json, sys; print(*json.load(sys.stdin)[1:], sep="\n")')
    mapfile -t -O ${#arguments[@]} arguments < <(of_compose "services['token-broker-local']['command']" |
        sed "s|^/routes.json$|$HERE/routes.json|")
    background container ip netns exec "$STACK" env -u TOKEN_BROKER_PORT "$PROGRAM" "${arguments[@]}"
    wait_for 30 grep -q '(UTC):$' "$LOGS/container.log"
}

# inside NAMESPACE SERVICE COMMAND...: runs a command in a container of the compose file.
inside() {
    local namespace=$1 variables
    mapfile -t variables < <(variables "$2")
    shift 2
    ip netns exec "$namespace" env -u http_proxy -u https_proxy "${variables[@]}" "$@"
}

python_service() {
    PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$PWD/clients/python/src inside "$STACK" service \
        "$SYSTEM_DIR/testing/bin/python" -m pytest -q -p no:cacheprovider "$HERE/test_service.py"
}
node_service() { inside "$STACK" service node --test "$HERE/service.test.mjs"; }
worker_reaches_every_port() {
    local port
    for port in 2774 7070 7071 7072 7073; do
        inside "$WORKER" worker curl -sS -o /dev/null --max-time 5 "http://token-broker-local:$port/" || return
    done
}
# shellcheck disable=SC2016 # the worker's variable
worker_uses_the_proxy() {
    inside "$WORKER" worker sh -euc 'curl -fsS "$PROXY_URL/v3/from-the-file" -H "X-Token-Broker-Token: local-guard"'
}
# shellcheck disable=SC2016 # as above
worker_invokes_the_function() {
    inside "$WORKER" worker sh -euc \
        'curl -fsS "$AWS_ENDPOINT_URL_LAMBDA/2015-03-31/functions/$TOKEN_BROKER_FUNCTION/invocations" -d "{}"' |
        grep -o '"token_type":"Bearer"'
}

# The steps of the workflow, with the archive instead of the command that downloads it.
workflow_steps() {
    SOURCE_DATE_EPOCH=$(date +%s) python3 scripts/release.py zip "$HERE/token-broker-local-x86_64.zip" \
        token-broker-local "$PROGRAM" && "$SYSTEM_DIR/testing/bin/python" - "$HERE" <<'PYTHON'
import os, pathlib, subprocess, sys, yaml
here = pathlib.Path(sys.argv[1])
start, test = yaml.safe_load((here / "github.yaml").read_text())
download, start = start["run"].split("\n", 1)
assert download.startswith("gh release download ") and download.endswith(" token-broker-local-x86_64.zip"), download
variables = {**os.environ, **test["env"]}
variables.pop("TOKEN_BROKER_PORT", None)
script = f"set -e\n{start}\n{sys.executable} -m {test['run']} -q -p no:cacheprovider test_service.py; kill %1"
subprocess.run(["bash", "-c", script], cwd=here, env=variables, check=True)
PYTHON
}
in_its_own_network() {
    PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$PWD/clients/python/src unshare --net sh -c 'ip link set lo up && "$@"' sh \
        bash -c "$(declare -p SYSTEM_DIR HERE PROGRAM); $(declare -f workflow_steps); workflow_steps"
}

need "the examples" examples
need "Python's tools" python_tools
need "Node and its client" node_tools
if [ "$(id -u)" != 0 ] || ! networks >"$LOGS/networks.log" 2>&1; then
    no_networks
    skip "testing: services in their own networks" "network namespaces need root"
    return
fi
trap 'no_networks; end_started' EXIT
need "the stack in its own network" start_container
check "testing: a service in Python is tested as in the example" python_service
check "testing: a service in Node is tested as in the example" node_service
check "testing: a container beside it reaches every port" worker_reaches_every_port
need "resetting the stack" inside "$STACK" service curl -fsS -X POST http://127.0.0.1:7071/_emulator/reset
check "testing: a container beside it gets the file's routes through the proxy" worker_uses_the_proxy
check "testing: a container beside it invokes the function" worker_invokes_the_function
check "testing: the steps of the workflow run" in_its_own_network
