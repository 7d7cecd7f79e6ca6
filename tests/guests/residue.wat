;; Looks, before anything else, for what an instance before it may have left in memory, table and globals; leaves as much as it can
;; itself. The first byte of a payload says how it ends: X looks again in the same instance.
(module
  ;;@prelude
  ;;@salt
  (table $table 100 funcref)
  (global $mark (mut i64) (i64.const 0))
  (global $found (mut i32) (i32.const 0))
  (elem declare func $mine)
  (func $mine)
  ;; All that is granted but a page, so that the host's answers have room.
  (func $look
    (local $at i32)
    (drop (memory.grow (i32.const 253)))
    (local.set $at (i32.const 4096))
    (loop $next
      (if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then (global.set $found (i32.const 1))))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if $next (i32.lt_u (local.get $at) (i32.mul (memory.size) (i32.const 65536)))))
    (local.set $at (i32.const 0))
    (loop $next
      (if (i32.eqz (ref.is_null (table.get $table (local.get $at)))) (then (global.set $found (i32.const 1))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $at) (table.size $table))))
    (if (i64.ne (global.get $mark) (i64.const 0)) (then (global.set $found (i32.const 1)))))
  (start $look)
  (func $leave
    (memory.fill (i32.const 65536) (i32.const 0xa5) (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 65536)))
    (drop (table.grow $table (ref.func $mine) (i32.const 10000)))
    (table.fill $table (i32.const 0) (ref.func $mine) (table.size $table))
    (global.set $mark (i64.const 0x5a5a5a5a)))

  (func (export "configure") (param i32 i32 i32 i32 i32 i32 i32 i64) (result i32)
    (if (global.get $found) (then unreachable))
    (call $spec (i32.const 1) (i32.const 1) (i32.const 0) (i32.const 0)))

  (func (export "process") (param $batch i32) (param $len i32) (result i32)
    (local $how i32)
    (local.set $how (i32.load8_u (call $payload (local.get $batch) (i32.const 0))))
    (call $leave)
    (if (i32.eq (local.get $how) (i32.const 0x54)) (then unreachable)) ;; T
    (if (i32.eq (local.get $how) (i32.const 0x4c)) (then (loop $again (br $again)))) ;; L
    (if (i32.eq (local.get $how) (i32.const 0x58)) ;; X
      (then (call $look) (if (global.get $found) (then unreachable))))
    (call $ok (call $verdicts (call $count (local.get $batch)))
      (i32.add (call $count (local.get $batch)) (i32.const 16)))))
