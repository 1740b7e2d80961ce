#!/usr/bin/env bash
# Fuzzes everything that reads input from outside, guided by coverage: libFuzzer on the stable toolchain.
#
#     lab/fuzz/libfuzzer/run.sh body                              # 10 million executions of one target
#     lab/fuzz/libfuzzer/run.sh all 100000                        # every target, this many executions each
#     lab/fuzz/libfuzzer/run.sh body 10000000 -max_total_time=720 # options of libFuzzer
#     lab/fuzz/libfuzzer/run.sh body 0 crash-…                    # this input only
#
# `lab/fuzz` has the targets, their checks, and the seeds. The corpus grows in `lab/fuzz/libfuzzer/corpus/TARGET`, is
# then reduced to the inputs that add coverage, and is not checked in. An input that breaks a rule is left in
# `lab/fuzz/libfuzzer/crash-…`; put it into `lab/fuzz/seeds/TARGET` with the fix, and `cargo test` runs it from then on.
# Needs a C++ compiler. The last line of each target is a row of docs/fuzzing.csv.
set -euo pipefail
cd "$(dirname "$0")"

target=${1:?which target, or all}
executions=${2:-10000000}
shift $(($# < 2 ? $# : 2))

host=$(rustc -vV | sed -n 's/^host: //p')
RUSTC_WRAPPER=$PWD/rustc.sh cargo build --release --target "$host"
binary=${CARGO_TARGET_DIR:-target}/$host/release/token-broker-libfuzzer

fuzz() {
    local name=$1 seeds=("../seeds/$1") log=corpus/$1.log
    shift
    if [ "$name" = event ]; then seeds+=(../../../events); fi
    mkdir -p "corpus/$name"
    export FUZZ_TARGET=$name
    if [ -f "${1:-}" ]; then "$binary" "$1"; return; fi
    "$binary" -runs="$executions" -max_len=4096 -timeout=10 -rss_limit_mb=2048 -dict=../dictionary.txt \
        -artifact_prefix=./ "$@" "corpus/$name" "${seeds[@]}" >"$log" 2>&1 || {
        grep -m 1 -A 1 'panicked\|ERROR: libFuzzer' "$log"
        echo "$name: a rule is broken; see lab/fuzz/libfuzzer/$log"
        return 1
    }
    rm -rf "corpus/$name.least" && mkdir "corpus/$name.least"
    "$binary" -merge=1 "corpus/$name.least" "corpus/$name" "${seeds[@]}" >"corpus/$name.merge.log" 2>&1
    rm -rf "corpus/$name" && mv "corpus/$name.least" "corpus/$name"
    local done_line edges executed files bytes
    done_line=$(grep -E '^#[0-9]+\s+DONE' "$log")
    executed=$(sed -E 's/^#([0-9]+).*/\1/' <<<"$done_line")
    edges=$(sed -E 's/.*cov: ([0-9]+).*/\1/' <<<"$done_line")
    files=$(find "corpus/$name" -type f | wc -l)
    bytes=$(cat "corpus/$name"/* | wc -c)
    echo "| \`$name\` | $executed | $edges | $files inputs, $((bytes / 1024)) KiB | $(date -u +%F) |"
}

mkdir -p corpus
names=$target
if [ "$target" = all ]; then names=$(ls ../seeds); fi
for name in $names; do fuzz "$name" "$@"; done
