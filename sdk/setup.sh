#!/bin/sh
# Makes sure that guests can be compiled for wasm32-unknown-unknown, and says how. Safe to run again.
# First that works: the target is installed; rustup adds it; Debian's compiler with the sources of its std (as root).
set -u

target=wasm32-unknown-unknown

installed() {
    libs=$(rustc --print target-libdir --target "$target" 2>/dev/null) && ls "$libs"/libstd-*.rlib >/dev/null 2>&1
}

# Debian's compiler builds std for the target itself; the linker may be rustup's or Debian's.
debian() {
    [ -x /usr/bin/rustc ] && [ -x /usr/bin/cargo ] || return 1
    [ -e "$(/usr/bin/rustc --print sysroot)/lib/rustlib/src/rust/library/std/Cargo.toml" ] || return 1
    host_libs=$(rustc --print target-libdir 2>/dev/null) || host_libs=/nonexistent
    [ -x "$host_libs/../bin/rust-lld" ] || ls /usr/bin/wasm-ld* >/dev/null 2>&1
}

if installed; then
    echo "guests: the target $target is installed"
    exit 0
fi
if debian; then
    echo "guests: $(/usr/bin/rustc --version) builds std for $target itself"
    exit 0
fi
if command -v rustup >/dev/null 2>&1; then
    echo "guests: rustup target add $target"
    if timeout 60 rustup target add "$target" && installed; then
        echo "guests: the target $target is installed"
        exit 0
    fi
fi
if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
    echo "guests: installing Debian's compiler with the sources of its std"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # rustc-web follows upstream; where it does not exist, rustc is what there is.
    apt-get install -y -qq --no-install-recommends rustc-web cargo-web rust-web-src lld-19 >/dev/null ||
        apt-get install -y -qq --no-install-recommends rustc cargo rust-src lld >/dev/null
    if debian; then
        echo "guests: $(/usr/bin/rustc --version) builds std for $target itself"
        exit 0
    fi
fi
cat >&2 <<EOF
guests: nothing here compiles for $target. Do one of these, then run this again:
  rustup target add $target
  apt-get install rustc-web cargo-web rust-web-src lld-19    (Debian, as root)
EOF
exit 1
