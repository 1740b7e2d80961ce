#!/usr/bin/env bash
# The compiler, with coverage instrumentation for the crates that parse. Other dependencies and build scripts are not
# instrumented. `run.sh` calls this through RUSTC_WRAPPER.
set -euo pipefail
case " $* " in
    *" --target "*) ;;
    *) exec "$@" ;;
esac
case " $* " in
    # The rules themselves are not searched.
    *" --crate-name token_broker_fuzz "* | *" --crate-name token_broker_libfuzzer "*) exec "$@" ;;
    *" --crate-name token_broker"* | \
    *" --crate-name base64 "* | *" --crate-name form_urlencoded "* | *" --crate-name http "* | \
    *" --crate-name serde_json "* | *" --crate-name time "* | *" --crate-name url "*)
        exec "$@" -C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=4 \
            -C llvm-args=-sanitizer-coverage-inline-8bit-counters -C llvm-args=-sanitizer-coverage-pc-table
        ;;
    *) exec "$@" ;;
esac
