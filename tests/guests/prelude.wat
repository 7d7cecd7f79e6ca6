  ;; What all guests share: memory, a bump allocator that starts anew after each call, and answers.
  ;; Bytes 16 to 47 hold the answer's return area, 1024 to 4095 the guest's own data, the heap comes after.
  (memory (export "memory") 2)
  (global $heap (mut i32) (i32.const 4096))

  (func $alloc (export "cabi_realloc") (param $old i32) (param $old_len i32) (param $align i32) (param $len i32)
    (result i32)
    (local $at i32) (local $end i32)
    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 15)) (i32.const -16)))
    (local.set $end (i32.add (local.get $at) (local.get $len)))
    (if (i32.gt_u (local.get $end) (i32.mul (memory.size) (i32.const 65536)))
      (then
        (if (i32.eq (i32.const -1)
              (memory.grow (i32.add (i32.const 1) (i32.div_u (local.get $len) (i32.const 65536)))))
          (then unreachable))))
    (global.set $heap (local.get $end))
    (local.get $at))

  (func (export "cabi_post_;;@function") (param i32) (global.set $heap (i32.const 4096)))
  (func (export "cabi_post_configure") (param i32) (global.set $heap (i32.const 4096)))

  ;; The answer of the function that judges: these bytes, or so many verdicts.
  (func $ok (param $at i32) (param $len i32) (result i32)
    (i32.store (i32.const 16) (i32.const 0))
    (i32.store (i32.const 20) (local.get $at))
    (i32.store (i32.const 24) (local.get $len))
    (i32.const 16))

  ;; The answer of the function that judges: failure `kind` (0 retry, 1 reject) with this text.
  (func $failure (param $kind i32) (param $at i32) (param $len i32) (result i32)
    (i32.store (i32.const 16) (i32.const 1))
    (i32.store (i32.const 20) (local.get $kind))
    (i32.store (i32.const 24) (local.get $at))
    (i32.store (i32.const 28) (local.get $len))
    (i32.const 16))

  ;; The answer of `configure`: fields, verdicts (1 keep, 2 drop, 4 emit, 8 reject), list of topics.
  (func $spec (param $fields i32) (param $verdicts i32) (param $topics i32) (param $count i32) (result i32)
    (i32.store (i32.const 16) (i32.const 0))
    (i32.store8 (i32.const 20) (local.get $fields))
    (i32.store8 (i32.const 21) (local.get $verdicts))
    (i32.store (i32.const 24) (local.get $topics))
    (i32.store (i32.const 28) (local.get $count))
    (i32.const 16))

  ;; The answer of `configure`: refused with this text.
  (func $refuse (param $at i32) (param $len i32) (result i32)
    (i32.store (i32.const 16) (i32.const 1))
    (i32.store (i32.const 20) (local.get $at))
    (i32.store (i32.const 24) (local.get $len))
    (i32.const 16))

  ;; Records in a batch.
  (func $count (param $batch i32) (result i32) (i32.load offset=8 (local.get $batch)))

  ;; Row of a record in a batch's table.
  (func $row (param $batch i32) (param $index i32) (result i32)
    (i32.add (local.get $batch) (i32.add (i32.const 64) (i32.mul (local.get $index) (i32.const 12)))))

  ;; Address of a record's payload.
  (func $payload (param $batch i32) (param $index i32) (result i32)
    (local $at i32)
    (local.set $at
      (i32.add (call $row (local.get $batch) (call $count (local.get $batch)))
        (i32.load offset=12 (local.get $batch))))
    (if (local.get $index)
      (then
        (local.set $at
          (i32.add (local.get $at)
            (i32.load offset=8
              (call $row (local.get $batch) (i32.sub (local.get $index) (i32.const 1))))))))
    (local.get $at))

  ;; A verdict buffer with room for its tags; all bytes zero, so all keep. Bodies go right behind it.
  (func $verdicts (param $records i32) (result i32)
    (local $at i32)
    (local.set $at
      (call $alloc (i32.const 0) (i32.const 0) (i32.const 1) (i32.add (local.get $records) (i32.const 16))))
    (memory.fill (local.get $at) (i32.const 0) (i32.add (local.get $records) (i32.const 16)))
    (i32.store (local.get $at) (i32.const 0x4256534d)) ;; MSVB
    (i32.store8 offset=4 (local.get $at) (i32.const 1))
    (i32.store offset=8 (local.get $at) (local.get $records))
    (local.get $at))
