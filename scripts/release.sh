#!/usr/bin/env bash
# Builds a release in target/dist (or RELEASE_DIR), for arm64 and x86_64:
#
#   token-broker-ARCH.zip          the function: one program, `bootstrap`
#   token-broker-agent-ARCH.zip    the layer with the agent: `extensions/token-broker-agent`
#   *.template.yaml                CloudFormation for each of them
#   *.cdx.json                     the components of each program (CycloneDX)
#   SHA256SUMS                     of all of these
#
#   scripts/release.sh                  both processors
#   scripts/release.sh x86_64           one of them
#   scripts/release.sh --tag v1.2.3     both, if this is version 1.2.3 everywhere; also its part of the changelog
#
# The same commit and tools give the same bytes, wherever the repository, cargo's home and CARGO_TARGET_DIR are.
# The tools are the toolchain of rust-toolchain.toml, and those that this installs by version: cargo-lambda, Zig as the linker
# and C compiler, cargo-auditable, and SAM's translator.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/system/common.sh
. tests/system/arm64_std.sh

# The function first, then what else is shipped: NAME, and its name in the zip.
programs=("token-broker bootstrap")
[ ! -e clients/agent/Cargo.toml ] || programs+=("token-broker-agent extensions/token-broker-agent")

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

# compile ARCH CPU TARGET: each program, as $build/ARCH/lambda/NAME/bootstrap. In its own shell, because of the variables that it
# exports.
compile() (
    local arch=$1 cpu=$2 target=$3 name
    export CARGO_TARGET_DIR=$build/$arch
    if [ "$arch" = arm64 ]; then
        arm64_std
        export CARGO_TARGET_DIR=$build/$arch # it has set another one
    fi
    # RUSTFLAGS replaces cargo-lambda's own flag, which names the same processor.
    RUSTFLAGS="-Ctarget-cpu=$cpu $(prefixes --remap-path-prefix)"
    declare -x "CFLAGS_${target//-/_}=$(prefixes -ffile-prefix-map)"
    export RUSTFLAGS SOURCE_DATE_EPOCH
    for program in "${programs[@]}"; do
        name=${program% *}
        cargo auditable lambda build --locked --release "--${arch/_/-}" --package "$name" --bin "$name" \
            --lambda-dir "$CARGO_TARGET_DIR/lambda" --skip-target-check
    done
)

# pack ARCH TARGET: the archives, and the list of components of each.
pack() {
    local arch=$1 target=$2 name
    for program in "${programs[@]}"; do
        name=${program% *}
        python3 scripts/release.py zip "$dist/$name-$arch.zip" "${program#* }" "$build/$arch/lambda/$name/bootstrap"
        python3 scripts/release.py sbom "$dist/$name-$arch.cdx.json" "$name" "$target"
    done
}

cargo_tool cargo-auditable 0.7.7
cargo_lambda_tools
template_tools
cargo fetch --quiet --locked # so that all of prefixes() is there
mkdir -p "$dist"
rm -f "$dist"/*.zip "$dist"/*.json "$dist"/*.yaml "$dist/SHA256SUMS" "$dist/NOTES.md"
same_version
export SOURCE_DATE_EPOCH
for arch in "$@"; do
    case $arch in
        arm64) cpu=neoverse-n1 target=$ARM64 ;;
        x86_64) cpu=haswell target=x86_64-unknown-linux-gnu ;;
        *) fail "there is no processor $arch" ;;
    esac
    compile "$arch" "$cpu" "$target"
    pack "$arch" "$target"
done
"$SYSTEM_DIR/sam-translator/bin/python" scripts/release_template.py "$dist" "$version" "$@"
cp clients/agent/template.yaml "$dist/token-broker-agent.template.yaml"
(cd "$dist" && sha256sum -- *.zip *.json *.yaml | tee SHA256SUMS)
