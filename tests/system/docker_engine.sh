# A Docker engine, and the image in which the SAM CLI runs functions.
# shellcheck shell=bash

engine_runs() { docker version; }

# Our own, if none runs. It needs neither firewall nor routing, because containers talk only to this machine. It has to
# outlast all containers.
start_engine() {
    ENGINE=$(mktemp -d) # and not in target/system, since the path of a socket has to be short
    background dockerd dockerd --data-root "$SYSTEM_DIR/docker" --exec-root "$ENGINE/run" --pidfile "$ENGINE/pid" \
        --host "unix://$ENGINE/socket" --iptables=false --ip6tables=false --ip-forward=false
    ENGINE_PID=${STARTED[-1]}
    unset 'STARTED[-1]'
    export DOCKER_HOST=unix://$ENGINE/socket
    wait_for 60 engine_runs
}

install_engine() {
    may_install && apt_install docker.io iproute2 && { command -v docker || apt_install docker-cli; }
}

# Uses the running engine, or starts our own, which only root may do.
docker_engine() {
    engine_runs && return
    { command -v dockerd && command -v docker; } || install_engine || return
    engine_runs && return # installing it has started it
    [ "$(id -u)" = 0 ] && start_engine
}

# Ends the part: what has containers, then the stand-in and what the SAM CLI has built on it, then our engine.
end_engine() {
    end_started
    [ -z "${STAND_IN:-}" ] || docker image rm --force "$IMAGE" "${IMAGE%-*}-rapid-$ARCHITECTURE"
    [ -n "${ENGINE:-}" ] || return 0
    STARTED=("$ENGINE_PID")
    end_started
    ip link delete docker0
    rm -rf "$ENGINE"
} >/dev/null 2>&1

# gateway: where containers reach this machine. At its first start, an engine tells only the subnet, whose first address
# that is.
gateway() {
    docker network inspect bridge --format '{{with index .IPAM.Config 0}}{{or .Gateway .Subnet}}{{end}}' |
        sed 's|\.0/.*|.1|'
}

# The image of the runtime that the template names, for this machine's processor.
case $(uname -m) in
    aarch64 | arm64) ARCHITECTURE=arm64 ;;
    *) ARCHITECTURE=x86_64 ;;
esac
IMAGE=public.ecr.aws/lambda/provided:al2023-$ARCHITECTURE

image_is_here() { docker image inspect "$IMAGE" || timeout 120 docker pull "$IMAGE"; }

# stand_in_image PROGRAM: what this program links to, and what the SAM CLI needs to add its emulator of Lambda.
stand_in_image() {
    local files
    files=$(ldd "$1" /bin/sh /bin/mv /bin/chmod | grep -o '/[^ :]*' | grep -vx "$1" | sort -u) || return
    # shellcheck disable=SC2086 # one file is one word
    tar --create --dereference $files /etc/ssl/certs/ca-certificates.crt /etc/host.conf | docker import - "$IMAGE"
}
