;; Wants 64 MiB of memory before it is even configured.
(module
  (memory (export "memory") 1024)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)
  (func (export "configure") (param i32 i32 i32 i32 i32 i32 i32 i64) (result i32) unreachable)
  (func (export "process") (param i32 i32) (result i32) unreachable))
