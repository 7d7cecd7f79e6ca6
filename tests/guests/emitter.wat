;; Judges each record as the first byte of its payload says: d drop, r reject, n emit nothing, e emit to the reader with
;; another payload, t emit to the topic `out.a` unchanged, b both, s split in three for the reader, x 4,000 copies,
;; k an output with a key that is too long; anything else keep. With the configuration `"here"` it announces no topics.
(module
  ;;@prelude
  (global $end (mut i32) (i32.const 0))
  (data (i32.const 1024) "out.a")
  (data (i32.const 1040) "EMITTED")
  (data (i32.const 1056) "bad record")
  (data (i32.const 1072) "out.*")

  (func (export "configure")
    (param i32 i32 i32 i32 i32) (param $config i32) (param $config_len i32) (param i64) (result i32)
    (if (i32.eq (i32.load8_u offset=1 (local.get $config)) (i32.const 0x68)) ;; h
      (then (return (call $spec (i32.const 1) (i32.const 15) (i32.const 0) (i32.const 0)))))
    (i32.store (i32.const 2048) (i32.const 1072))
    (i32.store (i32.const 2052) (i32.const 5))
    (call $spec (i32.const 1) (i32.const 15) (i32.const 2048) (i32.const 1)))

  (func $u8 (param i32)
    (i32.store8 (global.get $end) (local.get 0))
    (global.set $end (i32.add (global.get $end) (i32.const 1))))
  (func $u16 (param i32)
    (i32.store16 (global.get $end) (local.get 0))
    (global.set $end (i32.add (global.get $end) (i32.const 2))))
  (func $u32 (param i32)
    (i32.store (global.get $end) (local.get 0))
    (global.set $end (i32.add (global.get $end) (i32.const 4))))
  (func $text (param $at i32) (param $len i32)
    (memory.copy (global.get $end) (local.get $at) (local.get $len))
    (global.set $end (i32.add (global.get $end) (local.get $len))))

  (func $to_reader
    (call $u8 (i32.const 8))
    (call $u32 (i32.const 7))
    (call $text (i32.const 1040) (i32.const 7)))
  (func $to_topic
    (call $u8 (i32.const 1))
    (call $u16 (i32.const 5))
    (call $text (i32.const 1024) (i32.const 5)))

  (func $emits (param $how i32) (result i32)
    (local $i i32)
    (if (i32.eq (local.get $how) (i32.const 0x6e)) (then (call $u32 (i32.const 0)) (return (i32.const 1)))) ;; n
    (if (i32.eq (local.get $how) (i32.const 0x65)) ;; e
      (then (call $u32 (i32.const 1)) (call $to_reader) (return (i32.const 1))))
    (if (i32.eq (local.get $how) (i32.const 0x74)) ;; t
      (then (call $u32 (i32.const 1)) (call $to_topic) (return (i32.const 1))))
    (if (i32.eq (local.get $how) (i32.const 0x62)) ;; b
      (then (call $u32 (i32.const 2)) (call $to_reader) (call $to_topic) (return (i32.const 1))))
    (if (i32.eq (local.get $how) (i32.const 0x73)) ;; s
      (then
        (call $u32 (i32.const 3)) (call $to_reader) (call $to_reader) (call $to_reader)
        (return (i32.const 1))))
    (if (i32.eq (local.get $how) (i32.const 0x78)) ;; x: an output without flags is a byte, and the whole record
      (then
        (call $u32 (i32.const 4000))
        (loop $next
          (call $u8 (i32.const 0))
          (local.set $i (i32.add (local.get $i) (i32.const 1)))
          (br_if $next (i32.lt_u (local.get $i) (i32.const 4000))))
        (return (i32.const 1))))
    (if (i32.eq (local.get $how) (i32.const 0x6b)) ;; k
      (then
        (call $u32 (i32.const 1))
        (call $u8 (i32.const 2))
        (call $u32 (i32.const 40000))
        (call $text (i32.const 0) (i32.const 40000))
        (return (i32.const 1))))
    (i32.const 0))

  (func (export "process") (param $batch i32) (param $len i32) (result i32)
    (local $n i32) (local $i i32) (local $out i32) (local $how i32) (local $tag i32)
    (local.set $n (call $count (local.get $batch)))
    (local.set $out (call $verdicts (local.get $n)))
    ;; Room for the bodies.
    (drop (call $alloc (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 2000000)))
    (global.set $end (i32.add (local.get $out) (i32.add (local.get $n) (i32.const 16))))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
        (local.set $how (i32.load8_u (call $payload (local.get $batch) (local.get $i))))
        (local.set $tag (i32.const 0))
        (if (i32.eq (local.get $how) (i32.const 0x64)) (then (local.set $tag (i32.const 1))))
        (if (i32.eq (local.get $how) (i32.const 0x72))
          (then
            (local.set $tag (i32.const 3))
            (call $u32 (i32.const 10))
            (call $text (i32.const 1056) (i32.const 10))))
        (if (call $emits (local.get $how)) (then (local.set $tag (i32.const 2))))
        (i32.store8 offset=16 (i32.add (local.get $out) (local.get $i)) (local.get $tag))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $next)))
    (i32.store offset=12 (local.get $out)
      (i32.sub (global.get $end) (i32.add (local.get $out) (i32.add (local.get $n) (i32.const 16)))))
    (call $ok (local.get $out) (i32.sub (global.get $end) (local.get $out)))))
