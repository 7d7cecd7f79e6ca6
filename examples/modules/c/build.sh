#!/bin/sh
# build.sh FILE: compiles the order desk to a core module, of which `millstream module build` makes a component.
# CLANG is the compiler, if it is not clang-19 or clang.
set -eu
out=$1
here=$(cd "$(dirname "$0")" && pwd)

clang=${CLANG:-$(command -v clang-19 || command -v clang || true)}
[ -n "$clang" ] || { echo "no clang: run sh examples/modules/setup.sh" >&2; exit 1; }

# A reactor: it has no main. Nothing in it may open files or print, since there is no WASI to do so.
"$clang" --target=wasm32-wasi -O2 -std=c11 -Wall -Wextra -Werror -Wno-unused-parameter -mexec-model=reactor -Wl,--strip-debug \
    -o "$out" "$here"/order_desk.c "$here"/json.c "$here"/typed_module.c "$here"/typed_module_component_type.o
