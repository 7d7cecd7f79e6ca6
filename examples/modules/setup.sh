#!/bin/sh
# Installs what the examples in C, JavaScript and Python are built with: clang by Debian's packages, the other tools by their
# registries, pinned with their hashes, below target/example-tools. Safe to run again; what is there already is left alone.
set -u
here=$(cd "$(dirname "$0")" && pwd)
tools=$(cd "$here/../.." && pwd)/target/example-tools
missing=

lacks() {
    missing="$missing
  - $1"
}

# Runs a command as root, where that can be had without asking.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

has_c() {
    clang=${CLANG:-$(command -v clang-19 || command -v clang)} || return 1
    scratch=$(mktemp -d) || return 1
    printf '#include <stdlib.h>\n#include <string.h>\ndouble f(char *s) { return strtod(s, NULL); }\n' >"$scratch/a.c"
    "$clang" --target=wasm32-wasi -mexec-model=reactor -Wl,--export=f -o "$scratch/a.wasm" "$scratch/a.c" 2>/dev/null
    works=$?
    rm -r "$scratch"
    return $works
}

if ! has_c && command -v apt-get >/dev/null 2>&1; then
    echo "examples: installing clang and a C library for WebAssembly"
    as_root env DEBIAN_FRONTEND=noninteractive sh -c 'apt-get update -qq && apt-get install -y -qq --no-install-recommends \
        clang-19 lld-19 wasi-libc libclang-rt-19-dev-wasm32 >/dev/null'
fi
has_c || lacks "C: apt-get install clang-19 lld-19 wasi-libc libclang-rt-19-dev-wasm32 (as root), or CLANG=the clang of a WASI SDK"

# The folder is made again where the pinned versions changed.
current() {
    cmp -s "$1" "$2"
}

js=$tools/javascript
if ! current "$here/javascript/package-lock.json" "$js/installed"; then
    echo "examples: installing componentize-qjs"
    rm -rf "$js" && mkdir -p "$js" && cp "$here/javascript/package.json" "$here/javascript/package-lock.json" "$js" &&
        (cd "$js" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) &&
        cp "$here/javascript/package-lock.json" "$js/installed"
fi
current "$here/javascript/package-lock.json" "$js/installed" ||
    lacks "JavaScript: Node.js 18 or later with npm, and access to the npm registry"

py=$tools/python
if ! current "$here/python/requirements.txt" "$py/installed"; then
    echo "examples: installing componentize-py"
    rm -rf "$py"
    mkdir -p "$tools"
    if ! python3 -m venv "$py" >/dev/null 2>&1 && command -v apt-get >/dev/null 2>&1; then
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
        python3 -m venv "$py"
    fi
    "$py/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: --require-hashes -r "$here/python/requirements.txt" &&
        cp "$here/python/requirements.txt" "$py/installed"
fi
current "$here/python/requirements.txt" "$py/installed" ||
    lacks "Python: Python 3.9 or later with venv and pip, and access to PyPI"

[ -z "$missing" ] && exit 0
echo "examples: these cannot be built here; get what they need, then run sh examples/modules/setup.sh again:$missing" >&2
exit 1
