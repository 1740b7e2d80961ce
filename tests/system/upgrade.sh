# Upgrade and rollback: this build of the function and an earlier one, on one table. The earlier one is the commit of
# UPGRADE_FROM, or of the last tag, or otherwise the one before the last change of the stored items' form.
# shellcheck shell=bash

form=src/outbound/dynamodb/item.rs
from=${UPGRADE_FROM:-$(git describe --tags --abbrev=0 2>/dev/null || git log -1 --skip=1 --format=%h -- $form)}
if ! git rev-parse --quiet --verify "$from^{commit}" >/dev/null; then
    skip "upgrade" "this clone has no earlier commit"
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
