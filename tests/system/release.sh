# The archives of a release: built twice in unrelated places, with identical bytes.
# shellcheck shell=bash

RELEASE=$SYSTEM_DIR/release
CRATES=${CARGO_HOME:-$HOME/.cargo}

# copy_sources DIRECTORY: copies everything that Git does not ignore, and the tools, which both builds share.
copy_sources() {
    mkdir -p "$1/source/target" && ln -s "$SYSTEM_DIR" "$1/source/target/system" &&
        git ls-files --cached --others --exclude-standard -z | tar --create --null --files-from - |
        tar --extract --directory "$1/source"
}

# release DIRECTORY CARGO_HOME: runs scripts/release.sh on the sources in this directory.
release() { RELEASE_DIR=$1/dist CARGO_TARGET_DIR=$1/build CARGO_HOME=$2 "$1/source/scripts/release.sh" x86_64; }

# Another home of cargo, with the same crates in it.
other_cargo_home() { mkdir -p "$1" && ln -s "$CRATES/registry" "$1/registry"; }

same_bytes() { cat "$RELEASE/here/dist/SHA256SUMS" && diff --recursive "$RELEASE/here/dist" "$RELEASE/some/where/else/dist"; }

names_no_directory() {
    unzip -o -q -d "$RELEASE" "$ARCHIVE" && unzip -o -q -d "$RELEASE" "$AGENT" &&
        ! grep --text --only-matching -F -e "$PWD" -e "$CRATES" "$RELEASE/bootstrap" \
            "$RELEASE/extensions/token-broker-agent"
}

is_cyclonedx() {
    "$SYSTEM_DIR/cyclonedx/bin/python" - "$1" <<'PYTHON'
import pathlib, sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
sys.exit(JsonStrictValidator(SchemaVersion.V1_5).validate_str(pathlib.Path(sys.argv[1]).read_text()))
PYTHON
}

rm -rf "$RELEASE"
need "cargo-lambda" cargo_lambda_tools
need "what checks a bill of materials" venv cyclonedx 'cyclonedx-python-lib[json-validation]==11.12.0'
need "the sources" copy_sources "$RELEASE/here"
need "the sources in another place" copy_sources "$RELEASE/some/where/else"
need "another home of cargo" other_cargo_home "$RELEASE/cargo"
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
check "release: build the archives" release "$RELEASE/here" "$CRATES" || return 0
check "release: build them again, in another place" release "$RELEASE/some/where/else" "$RELEASE/cargo" || return 0
check "release: both builds made the same bytes" same_bytes
ARCHIVE=$RELEASE/here/dist/token-broker-x86_64.zip
check "release: the zip is what Lambda takes" "$SYSTEM_DIR/cargo-lambda/bin/python" tests/system/package.py "$ARCHIVE" x86_64
AGENT=$RELEASE/here/dist/token-broker-agent-x86_64.zip
check "release: the agent's zip is a layer" "$SYSTEM_DIR/cargo-lambda/bin/python" tests/system/package.py "$AGENT" x86_64 \
    extensions/token-broker-agent
check "release: the programs name no directory of this machine" names_no_directory
for archive in "$ARCHIVE" "$AGENT"; do
    name=$(basename "${archive%.zip}.cdx.json")
    check "release: $name is CycloneDX" is_cyclonedx "$(dirname "$archive")/$name"
done
