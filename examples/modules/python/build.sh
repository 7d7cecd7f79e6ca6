#!/bin/sh
# build.sh FILE: makes a component of the order desk, with Python in it. COMPONENTIZE_PY is the tool, if it is neither what
# setup.sh installed nor on the PATH.
set -eu
out=$1
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)

tool=${COMPONENTIZE_PY:-$root/target/example-tools/python/bin/componentize-py}
[ -x "$tool" ] || tool=$(command -v componentize-py || true)
[ -n "$tool" ] || { echo "no componentize-py: run sh examples/modules/setup.sh" >&2; exit 1; }

# Without WASI: what Python would ask the system for traps when it is used. Hashes of texts are seeded at build time.
PYTHONHASHSEED=0 "$tool" --wit-path "$root/sdk/wit/module.wit" --world typed-module \
    componentize --stub-wasi --python-path "$here" order_desk --output "$out"
