#!/usr/bin/env bash
# The tests of the clients: one line per suite, and the output of a suite that failed.
#
#   clients/test.sh                 every suite
#   clients/test.sh node            this suite only
#
# Each suite builds the package (in target/clients/dist), installs the file, and tests the installed package. The file
# is also installed alone in a clean environment. A suite that cannot run here is skipped, which counts as a failure if
# CLIENTS_REQUIRE_ALL=1 is set. PYTHON and NODE choose the interpreters.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2

WORK=$PWD/target/clients # may be deleted at any time
PYTHON=${PYTHON:-python3}
NODE=${NODE:-node}
LOG=
failed=0
export PYTHONDONTWRITEBYTECODE=1

skip() { # SUITE REASON
    echo "$1: skipped: $2"
    [ "${CLIENTS_REQUIRE_ALL:-}" != 1 ] || failed=1
}

fail() { # SUITE REASON
    cat "$LOG"
    echo "$1: failed: $2"
    failed=1
}

count() { # SUITE PASSED FAILED SKIPPED
    [ "$3" = 0 ] || cat "$LOG"
    if [ "$4" = 0 ]; then echo "$1: $2 passed, $3 failed"; else echo "$1: $2 passed, $3 failed, $4 skipped"; fi
    [ "$3" = 0 ] && [ "$2" != 0 ] || failed=1
    [ "$4" = 0 ] || [ "${CLIENTS_REQUIRE_ALL:-}" != 1 ] || failed=1
}

relative_links() { # FOLDER: those of its README, which lead nowhere on a registry's page
    grep -noE '\]\([^)]*\)' "$1/README.md" | grep -vE '\((https?:|#)'
}

install_python() { # FOLDER, whose file `installed` records the versions
    local key
    key="$("$PYTHON" --version) $(cksum clients/python/pyproject.toml)"
    [ "$(cat "$1/installed" 2>/dev/null)" = "$key" ] && return
    rm -rf "$1" && "$PYTHON" -m venv "$1" &&
        "$1/bin/python" -m pip install --quiet --disable-pip-version-check './clients/python[test]' &&
        echo "$key" >"$1/installed"
}

install_node() { # FOLDER, as above; the versions are those of the package's devDependencies
    local key manifest='JSON.stringify({private: true, dependencies: require("./clients/node/package.json").devDependencies})'
    key="$("$NODE" --version) $(cksum clients/node/package.json)"
    [ "$(cat "$1/installed" 2>/dev/null)" = "$key" ] && return
    rm -rf "$1" && mkdir -p "$1" && "$NODE" -p "$manifest" >"$1/package.json" &&
        (cd "$1" && npm install --no-package-lock --no-audit --no-fund --loglevel=error) &&
        echo "$key" >"$1/installed"
}

run_python() {
    local venv=$WORK/python report=$WORK/python.xml install
    "$PYTHON" -c 'import ensurepip, venv' 2>>"$LOG" || { skip python "$PYTHON with venv is missing"; return; }
    install_python "$venv" >>"$LOG" 2>&1 ||
        { cat "$LOG"; skip python "the packages that its tests need cannot be installed"; return; }
    local dist=$WORK/dist/python clean=$WORK/clean-python
    rm -rf "$dist" "$WORK/staged-python"
    (python3 scripts/release.py stage python "$WORK/staged-python" && cd "$WORK/staged-python" &&
        "$venv/bin/python" -m hatchling build --directory "$dist") >>"$LOG" 2>&1 ||
        { fail python "the package cannot be built"; return; }
    if relative_links "$WORK/staged-python" >>"$LOG"; then fail python "the package's README has relative links"; fi
    install=(-m pip install --quiet --disable-pip-version-check --no-index --no-deps --force-reinstall "$dist"/*.whl)
    "$venv/bin/python" "${install[@]}" >>"$LOG" 2>&1 || { fail python "the wheel cannot be installed"; return; }
    # Without the packages of the extras, and without pytest.
    {
        "$PYTHON" -m venv --clear --without-pip "$clean" && "$venv/bin/python" -m pip --python "$clean/bin/python" \
            "${install[@]:2}" && "$clean/bin/python" -c '
import token_broker, token_broker.testing
assert token_broker.testing.FakeBroker().source().get().generation == 1'
    } >>"$LOG" 2>&1 || fail python "the wheel does not work alone"
    (
        cd clients/python &&
            "$venv/bin/ruff" check --quiet --no-cache . && "$venv/bin/ruff" format --quiet --no-cache --check .
    ) >>"$LOG" 2>&1 || fail python ruff
    if [ -x "$venv/bin/mypy" ]; then
        (cd clients/python && "$venv/bin/mypy" --cache-dir "$WORK/mypy" src tests) >>"$LOG" 2>&1 || fail python mypy
    else
        skip python-types "mypy needs Python 3.10 or later"
    fi
    rm -f "$report"
    (cd clients/python && "$venv/bin/python" -m pytest -q --junitxml="$report") >>"$LOG" 2>&1
    [ -s "$report" ] || { fail python "pytest did not run"; return; }
    # shellcheck disable=SC2046 # the three numbers are three words
    count python $("$venv/bin/python" - "$report" <<'EOF'
import sys, xml.etree.ElementTree as tree
suite = tree.parse(sys.argv[1]).getroot().find("testsuite")
tests, failures, errors, skipped = (int(suite.get(n)) for n in ("tests", "failures", "errors", "skipped"))
print(tests - failures - errors - skipped, failures + errors, skipped)
EOF
    )
}

run_node() {
    local work=$WORK/node output=$WORK/node.tap
    "$NODE" -e 'process.exit(process.versions.node.split(".")[0] >= 20 ? 0 : 1)' 2>>"$LOG" ||
        { skip node "Node.js 20 or later is missing"; return; }
    command -v npm >/dev/null || { skip node "npm is missing"; return; }
    install_node "$work" >>"$LOG" 2>&1 ||
        { cat "$LOG"; skip node "the packages that its tests need cannot be installed"; return; }
    rm -rf "$work/test" "$work/node_modules/token-broker"
    local dist=$WORK/dist/node clean=$WORK/clean-node
    rm -rf "$dist" "$clean" "$WORK/staged-node" && mkdir -p "$dist" "$clean"
    (python3 scripts/release.py stage node "$WORK/staged-node" && cd "$WORK/staged-node" &&
        npm pack --silent --pack-destination "$dist") >>"$LOG" 2>&1 ||
        { fail node "the package cannot be built"; return; }
    if relative_links "$WORK/staged-node" >>"$LOG"; then fail node "the package's README has relative links"; fi
    local install=(npm install --offline --no-save --no-package-lock --no-audit --no-fund --loglevel=error --prefix)
    "${install[@]}" "$work" "$dist"/*.tgz >>"$LOG" 2>&1 && cp -R clients/node/test "$work/test" ||
        { fail node "the package cannot be installed"; return; }
    # Without the packages of AWS.
    {
        "${install[@]}" "$clean" --omit=peer "$dist"/*.tgz && (cd "$clean" && "$NODE" --input-type=module -e '
            import "token-broker";
            import { FakeBroker } from "token-broker/testing";
            if ((await new FakeBroker().source().get()).generation !== 1) process.exit(1);')
    } >>"$LOG" 2>&1 || fail node "the package does not work alone"
    # Once with the types of Node.js alone, and once with those of browsers too.
    local lib
    for lib in es2023 es2023,dom,dom.iterable; do
        (
            cd "$work" && node_modules/.bin/tsc --noEmit --strict --exactOptionalPropertyTypes --skipLibCheck \
                --module nodenext --target es2023 --types node --lib "$lib" test/types.ts
        ) >>"$LOG" 2>&1 || fail node "tsc with $lib"
    done
    (cd "$work" && REPOSITORY=$OLDPWD "$NODE" --test --test-reporter=tap test/*.test.mjs) >"$output" 2>&1
    cat "$output" >>"$LOG"
    # shellcheck disable=SC2046 # the three numbers are three words
    set -- $(awk '/^# (pass|fail|cancelled|skipped) /{n[$2] = $3; found = 1}
        END {if (found) print n["pass"], n["fail"] + n["cancelled"], n["skipped"]}' "$output")
    if [ $# = 3 ]; then count node "$@"; else fail node "node --test did not run"; fi
}

suites=("$@")
[ $# -gt 0 ] || suites=(python node)
mkdir -p "$WORK"
for suite in "${suites[@]}"; do
    LOG=$WORK/$suite.log
    : >"$LOG"
    case $suite in
    python) run_python ;;
    node) run_node ;;
    *) echo "there is no suite $suite; there are: python node" >&2 && exit 2 ;;
    esac
done
exit $failed
