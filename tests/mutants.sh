#!/usr/bin/env bash
# Mutation testing: changes the code in one place at a time, and checks that a test fails.
#
#   tests/mutants.sh                         the protocol, in about half an hour
#   tests/mutants.sh function                the function (src), in about three hours
#   tests/mutants.sh --re login_limiter.rs   a part, by any option of cargo-mutants
#
# The package's unit tests run first, because they build in seconds. The mutants that they miss go to the model checker,
# the simulation and the property tests; those of the function to the integration tests. A mutant that survives needs a
# test, or a reason in docs/EVIDENCE.md.
set -euo pipefail
cd "$(dirname "$0")/.."

package=token-broker-protocol
tests=(--cargo-arg=--test=model --cargo-arg=--test=properties --cargo-arg=--test=plans)
if [ "${1:-}" = function ]; then
    package=token-broker
    tests=(--cargo-arg=--test=integration --cargo-arg=--test=properties --cargo-arg=--test=broker)
    shift
fi
least_caught_percent=95
work=$PWD/target/mutants
lists=$work/$package/mutants.out
# Shared by all mutants, so that no dependency is built twice.
export CARGO_TARGET_DIR="$work/build" PATH="$PATH:$work/tool/bin"

command -v cargo-mutants || cargo install --locked --version '^27.1' --root "$work/tool" cargo-mutants

# cargo-mutants exits with 0 if all mutants are caught, 2 if some are missed, 3 if tests timed out. Other codes are errors.
mutate() { cargo mutants --package "$package" --output "$work/$package" "$@" || [[ $? == [23] ]]; }
count() { cat "${@/#/$lists/}" | wc -l; }

mutate --cargo-arg=--lib "$@"
viable=$(count caught.txt missed.txt timeout.txt)
unviable=$(count unviable.txt)
cat "$lists/timeout.txt" >>"$lists/caught.txt" # a test that hangs has caught the mutant too

if [[ -s $lists/missed.txt ]]; then
    # Cargo's own option, because --test-package does not apply to the run without a mutant.
    mutate --iterate --cargo-arg=--package=token-broker-simulation "${tests[@]}" "$@"
fi
missed=$(count missed.txt)
caught=$((viable - missed))
((viable > 0)) || { echo "there are no viable mutants"; exit 1; }

echo
echo "$caught of $viable mutants were caught, $((100 * caught / viable)) %; $unviable more did not build. Not caught:"
cat "$lists/missed.txt"
((100 * caught >= least_caught_percent * viable))
