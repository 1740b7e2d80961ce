#!/usr/bin/env bash
# Checks the dependency tree with cargo-deny, by the rules of deny.toml.
#
# Bans, licences and sources are always checked. Advisories are checked if their database can be reached, which needs
# Git; otherwise the last line says so, and goes to the file $SKIPS if there is one.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/system/common.sh

cargo_tool cargo-deny 0.20.2
# The fuzzer is a separate workspace. An entry that only one of the two needs is not an error.
deny() {
    local manifest
    for manifest in Cargo.toml lab/fuzz/libfuzzer/Cargo.toml; do
        cargo deny --manifest-path "$manifest" --config deny.toml --workspace --locked "$@" || return
    done
}

deny check -A license-exception-not-encountered -A unused-wrapper bans licenses sources
if timeout 120 cargo deny fetch db; then
    deny --offline check advisories
else
    echo "SKIPPED: advisories were not checked, because their database is unreachable" |
        tee -a "${SKIPS:-/dev/null}"
fi
