#!/usr/bin/env bash
# Tests the broker on other people's runtimes, cloud emulators and clients.
#
#   tests/system.sh                 every part but `release` and `upgrade`, which build the function again
#   tests/system.sh moto callers    these parts only
#
# Each part is a file of tests/system/. It installs its tools (with apt-get if that is allowed, otherwise into
# target/system), talks only to this machine, and ends the processes that it started. A part that cannot run here is
# skipped, which counts as a failure if SYSTEM_REQUIRE_ALL=1 is set, as in .ci/run.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
. tests/system/common.sh

all=(template operations console testing languages oauth cargo_lambda deployment moto clients agent callers sam)
parts=("$@")
[ $# -gt 0 ] || parts=("${all[@]}")
for part in "${parts[@]}"; do
    [ -f "tests/system/$part.sh" ] || { echo "there is no part $part; there are: ${all[*]}" >&2; exit 2; }
done

for tool in cargo curl python3; do
    command -v $tool >/dev/null || { echo "this needs $tool" >&2; exit 2; }
done
begin_run
for part in "${parts[@]}"; do
    run_part "$part"
done
end_run
