#!/bin/sh
# build.sh FILE: makes a component of the order desk, with QuickJS in it. COMPONENTIZE_QJS is the tool, if it is neither what
# setup.sh installed nor on the PATH.
set -eu
out=$1
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)

tool=${COMPONENTIZE_QJS:-$root/target/example-tools/javascript/node_modules/.bin/componentize-qjs}
[ -x "$tool" ] || tool=$(command -v componentize-qjs || true)
[ -n "$tool" ] || { echo "no componentize-qjs: run sh examples/modules/setup.sh" >&2; exit 1; }

# Without WASI: what QuickJS would ask the system for traps when it is used.
"$tool" --wit "$root/sdk/wit/module.wit" --world typed-module --js "$here/order-desk.js" --sync --stub-wasi --output "$out"
