#!/usr/bin/env bash
# Builds a release in target/dist (or RELEASE_DIR), for arm64 and x86_64:
#
#   token-broker-ARCH.zip          the function: one program, `bootstrap`
#   token-broker-agent-ARCH.zip    the layer with the agent: `extensions/token-broker-agent`
#   token-broker-local-ARCH.zip    the local stack, with all libraries linked in, and the Containerfile that copies it
#   *.whl, token_broker-*.tar.gz   the client in Python
#   token-broker-*.tgz             the client in Node.js
#   *.crate                        the client in Rust, and the crate that it needs
#   *.template.yaml                CloudFormation for each of them
#   *.cdx.json                     the components of each program (CycloneDX)
#   LICENSES.txt                   the licences of all these components
#   SHA256SUMS                     of all of these
#
#   scripts/release.sh                  both processors
#   scripts/release.sh x86_64           one of them
#   scripts/release.sh --tag v1.2.3     both, if this is version 1.2.3 everywhere; also its part of the changelog
#
# The same commit and tools give the same bytes, wherever the repository, cargo's home and CARGO_TARGET_DIR are.
# The tools are the toolchain of rust-toolchain.toml with its standard libraries for musl, npm, and those that this
# installs by version: cargo-lambda, Zig as the linker and C compiler, cargo-auditable, hatchling, and SAM's translator.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/system/common.sh
. tests/system/arm64_std.sh

# The function first, then what else is shipped: NAME, and its name in the zip.
programs=("token-broker bootstrap" "token-broker-agent extensions/token-broker-agent")

if [ "${1:-}" = --tag ]; then
    tag=$2
    shift 2
fi
[ $# -gt 0 ] || set -- arm64 x86_64

dist=$(realpath -m "${RELEASE_DIR:-target/dist}")
build=$(realpath -m "${CARGO_TARGET_DIR:-target/release-build}")
cargo_home=$(realpath -m "${CARGO_HOME:-$HOME/.cargo}")
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
version=$(cargo metadata --locked --no-deps --format-version 1 | python3 scripts/release.py version token-broker)

fail() { echo "release: $*" >&2 && exit 1; }

same_version() {
    grep -qx "    SemanticVersion: $version" template.yaml || fail "template.yaml has another version than Cargo.toml"
    [ "$(grep -c "S3Key: token-broker/$version/" clients/agent/template.yaml)" = 2 ] ||
        fail "clients/agent/template.yaml has another version than Cargo.toml"
    [ -n "${tag:-}" ] || return 0
    [ "$tag" = "v$version" ] || fail "the tag is $tag, and Cargo.toml says $version"
    python3 scripts/release.py notes "$version" CHANGELOG.md >"$dist/NOTES.md" || fail "CHANGELOG.md has nothing on $version"
}

# prefixes FLAG: for each directory whose name would end up in a program, the flag that writes another one instead. If
# several fit a path, compilers use the last.
prefixes() {
    local registry
    printf '%s ' "$1=$PWD=/token-broker" "$1=$build=/target"
    for registry in "$cargo_home"/registry/src/*; do
        printf '%s ' "$1=$registry=/registry"
    done
    # The standard library already has this name, unless its source is installed.
    printf '%s ' "$1=$(rustc --print sysroot)/lib/rustlib/src/rust=/rustc/$(rustc -vV | sed -n 's/^commit-hash: //p')"
}

# auditable COMMAND...: a command of cargo that writes the list of dependencies into a program. cargo-auditable names
# itself to cargo by its path, which cargo hashes into the names of our crates. So cargo gets a name to find on PATH.
auditable() {
    mkdir -p "$build"
    printf '#!/bin/sh\nRUSTC_WORKSPACE_WRAPPER=cargo-auditable exec cargo "$@"\n' >"$build/cargo"
    chmod +x "$build/cargo"
    CARGO=$build/cargo cargo-auditable auditable "$@"
}

# compile ARCH CPU TARGET: each program, as $build/lambda-ARCH/NAME/bootstrap. In its own shell, because of the variables
# that it exports.
compile() (
    local arch=$1 cpu=$2 target=$3 name
    [ "$arch" != arm64 ] || arm64_std
    # RUSTFLAGS replaces cargo-lambda's own flag, which names the same processor.
    RUSTFLAGS="-Ctarget-cpu=$cpu $(prefixes --remap-path-prefix)"
    declare -x "CFLAGS_${target//-/_}=$(prefixes -ffile-prefix-map)"
    export RUSTFLAGS SOURCE_DATE_EPOCH CARGO_TARGET_DIR=$build # which arm64_std may have changed
    for program in "${programs[@]}"; do
        name=${program% *}
        auditable lambda build --locked --release "--${arch/_/-}" --package "$name" --bin "$name" \
            --lambda-dir "$build/lambda-$arch" --skip-target-check
    done
)

# Called without cargo-lambda's wrapper, which takes eight times as long as compiling a small file.
zig_program() { "$SYSTEM_DIR/cargo-lambda/bin/python" -c 'import ziglang; print(ziglang.__path__[0] + "/zig")'; }

# compile_local ARCH TARGET: the local stack, as $build/TARGET/release/token-broker-local. Zig compiles the C code
# only: a caught panic aborts a program that Zig links, and its checks of undefined behaviour would have to be linked.
# Its speed does not matter, so it is built fast.
compile_local() (
    local target=$2 zig=$build/$1-zig
    rustup target add "$target" || exit
    mkdir -p "$zig"
    cat >"$zig/cc" <<END
#!/bin/sh
# Zig has a name of its own for the target.
for each; do shift; case \$each in --target=*) ;; *) set -- "\$@" "\$each" ;; esac; done
exec "$(zig_program)" cc -target ${target/-unknown/} "\$@"
END
    printf '#!/bin/sh\nexec "%s" ar "$@"\n' "$(zig_program)" >"$zig/ar"
    chmod +x "$zig/cc" "$zig/ar"
    declare -x "CC_${target//-/_}=$zig/cc" "AR_${target//-/_}=$zig/ar"
    declare -x "CFLAGS_${target//-/_}=-fno-sanitize=undefined $(prefixes -ffile-prefix-map)"
    RUSTFLAGS="-Clinker=rust-lld -Clink-self-contained=yes $(prefixes --remap-path-prefix)"
    export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OPT_LEVEL=1
    export RUSTFLAGS CARGO_TARGET_DIR=$build
    auditable build --locked --release --target "$target" --package token-broker-local
)

# try_local ARCH: the local stack returns a token as it is packed, and in the container.
try_local() (
    local arch=$1 runner=() tried=$build/tried log=$build/tried.log image=token-broker-local:release container
    rm -rf "$tried" && python3 -m zipfile -e "$dist/token-broker-local-$arch.zip" "$tried"
    chmod +x "$tried/token-broker-local"
    if [ "$arch" != "$host" ]; then
        runner=("qemu-${arch/arm64/aarch64}")
        command -v "${runner[0]}" >/dev/null || { not_tried "token-broker-local-$arch.zip needs qemu-user" && return; }
    fi
    "${runner[@]}" "$tried/token-broker-local" --port 0 >"$log" 2>&1 </dev/null &
    trap 'kill $!; wait $! || true' EXIT
    wait_for 60 grep -q '(UTC):$' "$log" || fail "token-broker-local for $arch does not start: $(cat "$log")"
    answers_a_token "$arch" "$(sed -n 's/^  the broker  *\([^ ]*\).*/\1/p' "$log")"
    if [ "$arch" != "$host" ]; then return; fi
    docker version >"$log" 2>&1 || { not_tried "the Containerfile needs a container engine" && return; }
    docker build --quiet --tag "$image" --file "$tried/Containerfile" "$tried"
    container=$(docker run --detach "$image")
    answers_a_token "$arch in a container" \
        "http://$(docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$container"):7070"
    docker rm --force "$container" >/dev/null && docker image rm "$image" >/dev/null
)

not_tried() { echo "release: NOT TRIED: $*"; }

# answers_a_token NAME URL
answers_a_token() {
    curl -fsS --noproxy '*' --retry 20 --retry-connrefused -X POST "$2/token" | grep -q '"token_type":"Bearer"' ||
        fail "token-broker-local for $1 returns no token"
    echo "release: token-broker-local for $1 returns a token"
}

# local_stack ARCH TARGET: the archive with the local stack, and the list of its components.
local_stack() {
    local arch=$1 target=$2
    compile_local "$arch" "$target"
    python3 scripts/release.py zip "$dist/token-broker-local-$arch.zip" \
        token-broker-local "$build/$target/release/token-broker-local" Containerfile crates/local/Containerfile
    python3 scripts/release.py sbom "$dist/token-broker-local-$arch.cdx.json" token-broker-local "$target"
    try_local "$arch"
}

# package_clients: what registries take.
package_clients() {
    local staged
    staged=$(mktemp -d)
    python3 scripts/release.py stage python "$staged/python"
    (cd "$staged/python" && "$SYSTEM_DIR/hatch/bin/python" -m hatchling build --directory "$dist")
    python3 scripts/release.py stage node "$staged/node"
    (cd "$staged/node" && npm pack --silent --pack-destination "$dist")
    rm -rf "$staged"
    cargo package --quiet --locked --no-verify --package token-broker-contract --package token-broker-client \
        --target-dir "$build/crates"
    cp "$build"/crates/package/token-broker-{contract,client}-"$version".crate "$dist/"
}

# pack ARCH TARGET: the archives, and the list of components of each.
pack() {
    local arch=$1 target=$2 name
    for program in "${programs[@]}"; do
        name=${program% *}
        python3 scripts/release.py zip "$dist/$name-$arch.zip" "${program#* }" "$build/lambda-$arch/$name/bootstrap"
        python3 scripts/release.py sbom "$dist/$name-$arch.cdx.json" "$name" "$target"
    done
}

case $(uname -m) in
    aarch64 | arm64) host=arm64 ;;
    *) host=x86_64 ;;
esac
cargo_tool cargo-auditable 0.7.7
venv hatch hatchling==1.27.0
command -v npm >/dev/null || { may_install && apt_install nodejs npm; }
cargo_lambda_tools
template_tools
cargo fetch --quiet --locked # so that all of prefixes() is there
mkdir -p "$dist"
rm -f "$dist"/{*.zip,*.json,*.txt,*.yaml,*.whl,*.tar.gz,*.tgz,*.crate,SHA256SUMS,NOTES.md}
same_version
export SOURCE_DATE_EPOCH
for arch in "$@"; do
    case $arch in
        arm64) cpu=neoverse-n1 target=$ARM64 ;;
        x86_64) cpu=haswell target=x86_64-unknown-linux-gnu ;;
        *) fail "there is no release for the processor $arch" ;;
    esac
    local_stack "$arch" "${target%gnu}musl"
    compile "$arch" "$cpu" "$target"
    pack "$arch" "$target"
done
python3 scripts/release.py licences "$dist"
"$SYSTEM_DIR/sam-translator/bin/python" scripts/release_template.py "$dist" "$version" "$@"
cp clients/agent/template.yaml "$dist/token-broker-agent.template.yaml"
package_clients
(cd "$dist" && sha256sum -- *.zip *.json *.txt *.yaml *.whl *.tar.gz *.tgz *.crate | tee SHA256SUMS)
