#!/usr/bin/env bash
# Mutation testing of the protocol: changes src/core in one place at a time, and looks whether a test fails.
#
#   tests/mutants.sh                           all of it, in about half an hour
#   tests/mutants.sh --re src/core/ledger.rs   a part; or whatever else cargo-mutants can be told
#
# The unit tests go first: they build without anything that does I/O, in seconds. What they miss goes to the model
# checker, the simulation and the property tests. What is left then needs a test, or a reason in docs/MUTANTS.md.
set -euo pipefail
cd "$(dirname "$0")/.."

least_caught_percent=95
work=$PWD/target/mutants
lists=$work/mutants.out
# Shared by all mutants, so that no dependency is built twice.
export CARGO_TARGET_DIR="$work/build" PATH="$PATH:$work/tool/bin"

command -v cargo-mutants || cargo install --locked --version '^27.1' --root "$work/tool" cargo-mutants

# Ends with 0 where all are caught, 2 where some are missed, 3 where tests ran out of time. All else is an error.
mutate() { cargo mutants --output "$work" "$@" || [[ $? == [23] ]]; }
count() { cat "${@/#/$lists/}" | wc -l; }

mutate --no-default-features --cargo-arg=--lib "$@"
viable=$(count caught.txt missed.txt timeout.txt)
unviable=$(count unviable.txt)
cat "$lists/timeout.txt" >>"$lists/caught.txt" # a test that never ends has noticed, too

if [[ -s $lists/missed.txt ]]; then
    mutate --iterate --cargo-arg=--test=model --cargo-arg=--test=simulation --cargo-arg=--test=properties "$@"
fi
missed=$(count missed.txt)
caught=$((viable - missed))
((viable > 0)) || { echo "there was nothing to change"; exit 1; }

echo
echo "$caught of $viable mutants were caught, $((100 * caught / viable)) %; $unviable more did not build. Not caught:"
cat "$lists/missed.txt"
((100 * caught >= least_caught_percent * viable))
