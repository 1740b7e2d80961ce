# Builds and runs programs for arm64, if this machine is not arm64.
# shellcheck shell=bash

ARM64=aarch64-unknown-linux-gnu

# From rustup. If its server is unreachable or there is no rustup, built by the existing compiler from the source that
# Debian packages for it; then this sets RUSTC and CARGO_TARGET_DIR.
arm64_std() {
    [ -d "$(rustc --print sysroot)/lib/rustlib/$ARM64/lib" ] || rustup target add "$ARM64" || build_arm64_std
}

build_arm64_std() {
    local version dir sysroot flags
    version=$(rustc --version | cut -d ' ' -f 2)
    dir=$SYSTEM_DIR/rust-$version
    sysroot=$(rustc --print sysroot)
    if [ ! -e "$dir/bin/rustc" ]; then
        rust_source "$version" "$dir/source" || return
        # The shared library would have to be linked, and nothing needs it.
        sed -i 's/^crate-type = .*/crate-type = ["rlib"]/' "$dir/source/library/std/Cargo.toml"
        # Built like the toolchain's own, with the profile and the lock file of its source. Paths are rewritten as
        # there, so that no program names this machine's directories.
        flags="-Zforce-unstable-if-unmarked --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}/registry/src=/registry"
        flags+=" --remap-path-prefix=$dir/source=/rustc/$(rustc -vV | sed -n 's/^commit-hash: //p')"
        RUSTC_BOOTSTRAP=1 CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS=$flags \
            cargo build --locked --manifest-path "$dir/source/library/sysroot/Cargo.toml" --target-dir "$dir/target" \
            --target "$ARM64" --profile dist --features "panic-unwind backtrace" || return
        mkdir -p "$dir/bin" "$dir/lib/rustlib/$ARM64/lib"
        cp "$dir/target/$ARM64/dist/deps/"*.rlib "$dir/lib/rustlib/$ARM64/lib"
        ln -sfn "$sysroot/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')" "$dir/lib/rustlib/"
        rm -rf "$dir/source" "$dir/target"
        # shellcheck disable=SC2016 # this is the script's own "$@"
        printf '#!/bin/sh\nexec "%s" --sysroot "%s" "$@"\n' "$sysroot/bin/rustc" "$dir" >"$dir/bin/rustc"
        chmod +x "$dir/bin/rustc"
    fi
    # In its own place, because code compiled against another standard library does not fit this one.
    export RUSTC=$dir/bin/rustc CARGO_TARGET_DIR=$dir/target
}

# rust_source VERSION DIRECTORY: unpacks the source of this version's standard library, from whichever suite of this
# machine's Debian mirror has it. Debian's keys vouch for it; the machine's own lists of packages stay as they are.
rust_source() {
    local apt=$SYSTEM_DIR/apt mirror suite package
    # shellcheck disable=SC2016 # these are not this shell's
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | head -n 1)
    [ -n "$mirror" ] || { echo "no Debian mirror is known here, nor can rustup add $ARM64"; return 1; }
    mkdir -p "$apt/lists/partial" "$apt/archives/partial"
    for suite in stable-backports testing unstable; do
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
    done >"$apt/sources.list"
    echo "Dir { Etc { SourceList \"$apt/sources.list\"; SourceParts \"-\"; } State::Lists \"$apt/lists\"; Cache \"$apt\"; }" >"$apt/apt.conf"
    (
        export APT_CONFIG=$apt/apt.conf
        apt-get update -q || exit
        package=$(apt-cache madison rust-src | awk -v begin="$1+" 'index($3, begin) == 1 { print $3; exit }')
        [ -n "$package" ] || { echo "Debian has no rust-src of Rust $1"; exit 1; }
        cd "$apt/archives" && apt-get download "rust-src=$package" && dpkg-deb -x rust-src_*.deb "$apt/unpacked"
    ) || return
    rm -rf "$2" && mkdir -p "$(dirname "$2")" && mv "$apt/unpacked/usr/src/rustc-$1" "$2" && rm -rf "$apt"
}

# Sets QEMU to the command that runs a program for arm64, empty on such a machine.
emulate_arm64() {
    QEMU=
    [ "$(uname -m)" = aarch64 ] && return
    QEMU="qemu-aarch64 -L /usr/aarch64-linux-gnu"
    { command -v qemu-aarch64 && [ -e /usr/aarch64-linux-gnu/lib/libc.so.6 ]; } ||
        { may_install && apt_install qemu-user libc6-arm64-cross; }
}
