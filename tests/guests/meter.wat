;; Counts records in a counter called by the first byte of their payloads, sets the gauge `calls` to how many calls this instance
;; has had, and keeps all. `!` traps after it was counted, by a name that no counter may have.
(module
  (import "millstream:module/metrics@1.0.0" "add" (func $add (param i32 i32 i64)))
  (import "millstream:module/metrics@1.0.0" "set" (func $set (param i32 i32 f64)))
  ;;@prelude
  ;;@salt
  (global $calls (mut i32) (i32.const 0))
  (data (i32.const 1024) "calls")
  (func (export "configure") (param i32 i32 i32 i32 i32 i32 i32 i64) (result i32)
    (call $add (i32.const 1024) (i32.const 5) (i64.const 1))
    (call $spec (i32.const 1) (i32.const 1) (i32.const 0) (i32.const 0)))
  (func (export "process") (param $batch i32) (param $len i32) (result i32)
    (local $n i32) (local $i i32) (local $at i32)
    (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
    (call $set (i32.const 1024) (i32.const 5) (f64.convert_i32_u (global.get $calls)))
    (local.set $n (call $count (local.get $batch)))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
        (local.set $at (call $payload (local.get $batch) (local.get $i)))
        (call $add (local.get $at) (i32.const 1) (i64.const 1))
        (if (i32.eq (i32.load8_u (local.get $at)) (i32.const 33)) (then unreachable))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $next)))
    (call $ok (call $verdicts (local.get $n)) (i32.add (local.get $n) (i32.const 16)))))
