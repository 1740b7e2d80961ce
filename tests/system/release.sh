# The archives of a release: built twice in unrelated places, with identical bytes. RELEASE_DIR may name the first build,
# made by `scripts/release.sh x86_64` from the same commit.
# shellcheck shell=bash

. tests/system/docker_engine.sh

RELEASE=$SYSTEM_DIR/release
DIST=$(realpath -m "${RELEASE_DIR:-$RELEASE/here/dist}")
CRATES=${CARGO_HOME:-$HOME/.cargo}

# copy_sources DIRECTORY: copies everything that Git does not ignore, and the tools, which both builds share.
copy_sources() {
    mkdir -p "$1/source/target" && ln -s "$SYSTEM_DIR" "$1/source/target/system" &&
        git ls-files --cached --others --exclude-standard -z | tar --create --null --files-from - |
        tar --extract --directory "$1/source"
}

# release DIRECTORY CARGO_HOME: runs scripts/release.sh on the sources in this directory.
release() { RELEASE_DIR=$1/dist CARGO_TARGET_DIR=$1/build CARGO_HOME=$2 "$1/source/scripts/release.sh" x86_64; }

# Another home of cargo, with the same crates in it.
other_cargo_home() { mkdir -p "$1" && ln -s "$CRATES/registry" "$1/registry"; }

same_bytes() { cat "$DIST/SHA256SUMS" && diff --recursive "$DIST" "$RELEASE/some/where/else/dist"; }

names_no_directory() {
    unzip -o -q -d "$RELEASE/local" "$DIST/token-broker-local-x86_64.zip" && unzip -o -q -d "$RELEASE" "$ARCHIVE" && unzip -o -q -d "$RELEASE" "$AGENT" &&
        ! grep --text --only-matching -F -e "$PWD" -e "$CRATES" "$RELEASE/bootstrap" \
            "$RELEASE/extensions/token-broker-agent" "$RELEASE/local/token-broker-local"
}

is_cyclonedx() {
    "$SYSTEM_DIR/cyclonedx/bin/python" - "$1" <<'PYTHON'
import pathlib, sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
sys.exit(JsonStrictValidator(SchemaVersion.V1_5).validate_str(pathlib.Path(sys.argv[1]).read_text()))
PYTHON
}

# Those of our programs, and of crates that only the function, or only the local stack, links.
has_licences() {
    local name
    for name in token-broker token-broker-agent token-broker-local aws-sdk-secretsmanager rusqlite; do
        grep "^$name [0-9.]*: " "$DIST/LICENSES.txt" && grep -q "\b$name [0-9.]* (LICENSE" "$DIST/LICENSES.txt" || return
    done
}

# Neither a loader nor a library.
is_static() {
    unzip -o -q -d "$RELEASE/local" "$DIST/token-broker-local-x86_64.zip" &&
        readelf --program-headers --dynamic --wide "$RELEASE/local/token-broker-local" >"$RELEASE/local/elf" &&
        ! grep -E 'INTERP|NEEDED' "$RELEASE/local/elf"
}

# scripts/release.sh says what it has tried.
was_tried() { grep "release: token-broker-local for $1 returns a token" "$LOGS/release-build-them-again-in-another-place-.log"; }

# In clean environments, from the files of the release alone. The fake broker of each client needs no network.
python_installs() {
    python3 -m venv "$RELEASE/python" && "$RELEASE/python/bin/pip" install --quiet --no-index "$DIST"/*.whl &&
        "$RELEASE/python/bin/python" -c '
from token_broker.testing import FakeBroker
assert FakeBroker().source().get().generation == 1'
}
node_installs() {
    npm install --offline --no-audit --no-fund --omit=peer --prefix "$RELEASE/node" "$DIST"/*.tgz && (cd "$RELEASE/node" &&
        node --input-type=module -e '
            import { FakeBroker } from "token-broker/testing";
            if ((await new FakeBroker().source().get()).generation !== 1) process.exit(1);')
}
rust_installs() {
    local crate folder=$RELEASE/rust
    mkdir -p "$folder/tests" "$folder/src" && touch "$folder/src/lib.rs" || return
    for crate in "$DIST"/*.crate; do tar -xz -C "$folder" -f "$crate" || return; done
    document_block rust FakeBroker clients/rust/README.md >"$folder/tests/readme.rs"
    cat >"$folder/Cargo.toml" <<'END'
[package]
name = "caller"
edition = "2024"
[workspace]
[dev-dependencies]
token-broker-client = { version = "0.2.0", default-features = false, features = ["testing"] }
tokio = { version = "1", features = ["macros", "rt"] }
[patch.crates-io]
token-broker-client = { path = "token-broker-client-0.2.0" }
token-broker-contract = { path = "token-broker-contract-0.2.0" }
END
    cargo test --manifest-path "$folder/Cargo.toml" --target-dir "$folder/target" | tee -a /dev/stderr |
        grep 'test result: ok. [1-9]'
}

# The compose file of examples/testing. Its services are the reader's: here, images with curl and what it links to.
compose() { docker-compose --project-directory "$RELEASE/compose" --file "$RELEASE/compose/compose.yaml" "$@"; }
prepare_compose() {
    local folder=$RELEASE/compose
    rm -rf "$folder" && mkdir -p "$folder/worker" && cp -R "$RELEASE/local" "$folder/image" &&
        cp examples/testing/compose.yaml "$folder/" &&
        echo '[{"path": "/v3/from-the-file"}]' >"$folder/routes.json" || return
    command -v docker-compose || { may_install && apt_install docker-compose; } || return
    # shellcheck disable=SC2046 # one file is one word
    tar --create --dereference $(ldd /bin/sh /bin/sleep /usr/bin/curl | grep -o '/[^ :]*' | sort -u) \
        /etc/ssl/certs/ca-certificates.crt | docker import - token-broker-curl || return
    printf 'FROM token-broker-curl\nCMD ["/bin/sleep", "600"]\n' | tee "$folder/Dockerfile" >"$folder/worker/Dockerfile"
    compose up --detach --build
}
# shellcheck disable=SC2016 # the services' variables
service_asks_its_agent() {
    compose exec -T service /bin/sh -euc '/usr/bin/curl -fsS --retry 20 --retry-connrefused \
        "http://127.0.0.1:2774/proxy/default/v3/from-the-file" -H "X-Token-Broker-Token: $TOKEN_BROKER_TOKEN"'
}
# shellcheck disable=SC2016 # as above
worker_uses_the_proxy_and_invokes() {
    compose exec -T worker /bin/sh -euc '
        /usr/bin/curl -fsS "$PROXY_URL/v3/from-the-file" -H "X-Token-Broker-Token: local-guard"
        /usr/bin/curl -fsS "$AWS_ENDPOINT_URL_LAMBDA/2015-03-31/functions/$TOKEN_BROKER_FUNCTION/invocations" -d "{}"' |
        grep -o '"token_type":"Bearer"'
}
host_reaches_the_console() { curl -fsS -o /dev/null http://127.0.0.1:7070/; }
end_containers() {
    compose down --rmi local
    docker image rm --force token-broker-curl
    end_engine
} >/dev/null 2>&1

rm -rf "$RELEASE"
need "cargo-lambda" cargo_lambda_tools
need "the checker of bills of materials" venv cyclonedx 'cyclonedx-python-lib[json-validation]==11.12.0'
need "the sources" copy_sources "$RELEASE/here"
need "the sources in another place" copy_sources "$RELEASE/some/where/else"
need "another home of cargo" other_cargo_home "$RELEASE/cargo"
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
trap end_containers EXIT
if docker_engine >"$LOGS/docker-engine.log" 2>&1; then
    HAS_ENGINE=1
else
    skip "release: the containers" "no Docker engine runs here, and none could be started"
fi
[ -n "${RELEASE_DIR:-}" ] ||
    check "release: build the archives" release "$RELEASE/here" "$CRATES" || return 0
check "release: build them again, in another place" release "$RELEASE/some/where/else" "$RELEASE/cargo" || return 0
check "release: both builds made the same bytes" same_bytes
ARCHIVE=$DIST/token-broker-x86_64.zip
check "release: Lambda accepts the zip" "$SYSTEM_DIR/cargo-lambda/bin/python" tests/system/package.py "$ARCHIVE" x86_64 &&
    ln -s "$DIST" "$MADE/release"
AGENT=$DIST/token-broker-agent-x86_64.zip
check "release: the agent's zip is a layer" "$SYSTEM_DIR/cargo-lambda/bin/python" tests/system/package.py "$AGENT" x86_64 \
    extensions/token-broker-agent
check "release: the programs name no directory of this machine" names_no_directory
for archive in "$ARCHIVE" "$AGENT" "$DIST/token-broker-local-x86_64.zip"; do
    name=$(basename "${archive%.zip}.cdx.json")
    check "release: $name is CycloneDX" is_cyclonedx "$(dirname "$archive")/$name"
done
check "release: the licences of the components are there" has_licences
check "release: the local stack is statically linked" is_static && ln -s "$RELEASE/local" "$MADE/local"
check "release: the local stack returns a token" was_tried x86_64
check "release: the Python client is installed from its file" python_installs
check "release: the Node client is installed from its file" node_installs
check "release: the Rust client is installed from its files" rust_installs
[ -n "${HAS_ENGINE:-}" ] || return 0
check "release: the local stack returns a token in its container" was_tried "x86_64 in a container"
need "the example's containers" prepare_compose
check "release: a service in the stack's network gets the file's routes" service_asks_its_agent
check "release: a container beside it uses the proxy and invokes the function" worker_uses_the_proxy_and_invokes
check "release: the host reaches the console" host_reaches_the_console
