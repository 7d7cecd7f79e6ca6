;; Counts records in its state by the first byte of their payloads, in four bytes little-endian, and keeps them. `!` traps
;; after it was counted, `#` puts 256 KiB under a key that it has not put before, `?` asks for a retry.
(module
  (import "millstream:module/state@1.0.0" "get" (func $get (param i32 i32 i32)))
  (import "millstream:module/state@1.0.0" "put" (func $put (param i32 i32 i32 i32)))
  ;;@prelude
  (func (export "configure") (param i32 i32 i32 i32 i32 i32 i32 i64) (result i32)
    (call $spec (i32.const 1) (i32.const 1) (i32.const 0) (i32.const 0)))
  ;; 1024: the key, 1028: the count, 1032: what `get` answers, 1048: number of the large values.
  (func $add
    (call $get (i32.const 1024) (i32.const 1) (i32.const 1032))
    (i32.store (i32.const 1028)
      (i32.add (i32.const 1)
        (if (result i32) (i32.load8_u (i32.const 1032))
          (then (i32.load (i32.load (i32.const 1036))))
          (else (i32.const 0)))))
    (call $put (i32.const 1024) (i32.const 1) (i32.const 1028) (i32.const 4)))
  (func $fill
    (local $at i32)
    (i32.store (i32.const 1048) (i32.load (i32.const 1028)))
    (i32.store8 (i32.const 1052) (i32.const 35))
    (local.set $at (call $alloc (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 262144)))
    (call $put (i32.const 1048) (i32.const 5) (local.get $at) (i32.const 262144)))
  (func (export "process") (param $batch i32) (param $len i32) (result i32)
    (local $n i32) (local $i i32) (local $what i32)
    (local.set $n (call $count (local.get $batch)))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
        (local.set $what (i32.load8_u (call $payload (local.get $batch) (local.get $i))))
        (i32.store8 (i32.const 1024) (local.get $what))
        (call $add)
        (if (i32.eq (local.get $what) (i32.const 33)) (then unreachable))
        (if (i32.eq (local.get $what) (i32.const 35)) (then (call $fill)))
        (if (i32.eq (local.get $what) (i32.const 63))
          (then (return (call $failure (i32.const 0) (i32.const 1024) (i32.const 1)))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $next)))
    (call $ok (call $verdicts (local.get $n)) (i32.add (local.get $n) (i32.const 16)))))
