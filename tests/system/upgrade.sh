# Upgrade and rollback: this build of the function and an earlier one, on one table. The earlier one is the commit of
# UPGRADE_FROM, or of the last tag, or otherwise version 0.1.0, which has no tag.
# shellcheck shell=bash

from=${UPGRADE_FROM:-$(git describe --tags --abbrev=0 2>/dev/null || echo 10a98f2)}
if ! git rev-parse --quiet --verify "$from^{commit}" >/dev/null; then
    skip "upgrade" "this clone does not have $from"
    return
fi
source=$SYSTEM_DIR/upgrade-source

earlier_build() {
    rm -rf "$source" && mkdir -p "$source" && git archive "$from" | tar -x -C "$source" || return
    # Its own folder, or it would replace this build.
    (cd "$source" && CARGO_TARGET_DIR=$SYSTEM_DIR/upgrade-build cargo build --quiet --locked --package token-broker)
}
need "building the function of $from" earlier_build
export BROKER_TEST_OTHER_BUILD=$SYSTEM_DIR/upgrade-build/debug/token-broker
# Exact names, because otherwise a renamed test would silently not run.
both_ways() {
    cargo test --locked --package token-broker --test integration -- --ignored --exact \
        upgrade::two_builds::serve_and_renew_what_the_other_wrote \
        upgrade::two_builds::send_no_token_of_another_dialect_elsewhere |
        tee "$SYSTEM_DIR/upgrade-printed" && grep -q ' 2 passed' "$SYSTEM_DIR/upgrade-printed"
}
check "upgrade: from $from, and back" both_ways
