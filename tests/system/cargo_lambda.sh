# cargo-lambda: the package that is deployed, and its emulator of Lambda.
# shellcheck shell=bash

need "cargo-lambda" cargo_lambda_tools

# What the zip holds, and whether its program runs where the template says. A line for each thing that is wrong.
check_package() {
    python3 tests/system/package.py target/lambda/token-broker/bootstrap.zip
}

ARM64=aarch64-unknown-linux-gnu
need "the standard library for arm64" arm64_std
