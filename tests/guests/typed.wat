;;@world typed-module
;; Judges by the first byte of each payload, well and badly. The configuration `"headers"` has payloads left out, `"keep"`
;; announces no other verdict.
(module
;;@prelude
  ;; flights.>, flights.a, flights.b, a..b, not.announced, no
  (data (i32.const 1024) "flights.>flights.aflights.ba..bnot.announcedno\ff")
  (data (i32.const 1088) "\00\04\00\00\09\00\00\00") ;; list of topics: flights.>
  (data (i32.const 1096) "\09\04\00\00\09\00\00\00\12\04\00\00\09\00\00\00") ;; flights.a, flights.b
  (data (i32.const 1112) "\1b\04\00\00\04\00\00\00") ;; a..b
  (data (i32.const 1120) "\1f\04\00\00\0d\00\00\00") ;; not.announced

  ;; setup: contract, topic, subscription, config, output-bytes-max
  (func (export "configure") (param i32 i32 i32 i32 i32) (param $config i32) (param $len i32) (param i64) (result i32)
    (local $first i32)
    (if (i32.gt_u (local.get $len) (i32.const 2))
      (then (local.set $first (i32.load8_u offset=1 (local.get $config)))))
    (call $spec
      (i32.ne (local.get $first) (i32.const 104)) ;; h
      (select (i32.const 1) (i32.const 15) (i32.eq (local.get $first) (i32.const 107))) ;; k
      (i32.const 1088) (i32.const 1)))

  ;; A record has 48 bytes: offset 0, timestamp 8, key 16 (20, 24), headers 28 (32), payload 36 (40, 44).
  ;; A verdict has 12 bytes: kind 0 (keep, drop, route, emit, reject), list or text 4 (8).
  (func (export "process-records") (param $now i64) (param $records i32) (param $count i32) (result i32)
    (local $verdicts i32) (local $index i32) (local $record i32) (local $verdict i32) (local $what i32)
    (local.set $verdicts (call $zeroes (i32.mul (local.get $count) (i32.const 12))))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $index) (local.get $count)))
        (local.set $record (i32.add (local.get $records) (i32.mul (local.get $index) (i32.const 48))))
        (local.set $verdict (i32.add (local.get $verdicts) (i32.mul (local.get $index) (i32.const 12))))
        (local.set $index (i32.add (local.get $index) (i32.const 1)))
        ;; A tombstone is dropped.
        (if (i32.eqz (i32.load8_u offset=36 (local.get $record)))
          (then (i32.store8 (local.get $verdict) (i32.const 1)) (br $next)))
        (br_if $next (i32.eqz (i32.load offset=44 (local.get $record))))
        (local.set $what (i32.load8_u (i32.load offset=40 (local.get $record))))
        (if (i32.eq (local.get $what) (i32.const 68)) ;; D: drop
          (then (call $verdict (local.get $verdict) (i32.const 1) (i32.const 0) (i32.const 0))))
        (if (i32.eq (local.get $what) (i32.const 82)) ;; R: route to two topics
          (then (call $verdict (local.get $verdict) (i32.const 2) (i32.const 1096) (i32.const 2))))
        (if (i32.eq (local.get $what) (i32.const 66)) ;; B: to a topic whose name is none
          (then (call $verdict (local.get $verdict) (i32.const 2) (i32.const 1112) (i32.const 1))))
        (if (i32.eq (local.get $what) (i32.const 85)) ;; U: to a topic that was not announced
          (then (call $verdict (local.get $verdict) (i32.const 2) (i32.const 1120) (i32.const 1))))
        (if (i32.eq (local.get $what) (i32.const 74)) ;; J: reject
          (then (call $verdict (local.get $verdict) (i32.const 4) (i32.const 1068) (i32.const 2))))
        (if (i32.eq (local.get $what) (i32.const 73)) ;; I: reject, with a reason that is not UTF-8
          (then (call $verdict (local.get $verdict) (i32.const 4) (i32.const 1068) (i32.const 3))))
        (if (i32.eq (local.get $what) (i32.const 86)) ;; V: a verdict that does not exist
          (then (call $verdict (local.get $verdict) (i32.const 9) (i32.const 0) (i32.const 0))))
        (if (i32.eq (local.get $what) (i32.const 69)) ;; E: one output that tells what the record looks like
          (then
            (call $verdict (local.get $verdict) (i32.const 3)
              (call $echo (local.get $now) (local.get $record)) (i32.const 1))))
        (if (i32.eq (local.get $what) (i32.const 88)) ;; X: one without key, headers and payload
          (then
            (call $verdict (local.get $verdict) (i32.const 3)
              (call $bare (i32.const 1) (i32.const 0)) (i32.const 1))))
        (if (i32.eq (local.get $what) (i32.const 83)) ;; S: one that inherits everything
          (then
            (call $verdict (local.get $verdict) (i32.const 3)
              (call $zeroes (i32.const 48)) (i32.const 1))))
        (if (i32.eq (local.get $what) (i32.const 72)) ;; H: one with a header that has no name
          (then
            (call $verdict (local.get $verdict) (i32.const 3)
              (call $bare (i32.const 1) (i32.const 1)) (i32.const 1))))
        (if (i32.eq (local.get $what) (i32.const 80)) ;; P: one with more headers than a record may have
          (then
            (call $verdict (local.get $verdict) (i32.const 3)
              (call $bare (i32.const 1) (i32.const 1025)) (i32.const 1))))
        (if (i32.eq (local.get $what) (i32.const 77)) ;; M: more outputs than a record may have
          (then
            (call $verdict (local.get $verdict) (i32.const 3)
              (call $zeroes (i32.const 240000)) (i32.const 5000))))
        (if (i32.eq (local.get $what) (i32.const 67)) ;; C: a verdict too many
          (then (return (call $ok (call $zeroes (i32.const 4096)) (i32.add (local.get $count) (i32.const 1))))))
        (if (i32.eq (local.get $what) (i32.const 78)) ;; N: no verdicts
          (then (return (call $ok (i32.const 0) (i32.const 0)))))
        (if (i32.eq (local.get $what) (i32.const 79)) ;; O: far too many
          (then (return (call $ok (call $zeroes (i32.const 3000000)) (i32.const 250000)))))
        (if (i32.eq (local.get $what) (i32.const 87)) ;; W: verdicts outside of the memory
          (then (return (call $ok (i32.const 0x7ffffff0) (i32.const 10)))))
        (if (i32.eq (local.get $what) (i32.const 84)) ;; T: trap
          (then unreachable))
        (if (i32.eq (local.get $what) (i32.const 89)) ;; Y: the same batch again
          (then (return (call $failure (i32.const 0) (i32.const 1068) (i32.const 2)))))
        (if (i32.eq (local.get $what) (i32.const 90)) ;; Z: the batch can never be judged
          (then (return (call $failure (i32.const 1) (i32.const 1068) (i32.const 2)))))
        (br $next)))
    (call $ok (local.get $verdicts) (local.get $count)))

  (func $verdict (param $at i32) (param $kind i32) (param $list i32) (param $len i32)
    (i32.store8 (local.get $at) (local.get $kind))
    (i32.store offset=4 (local.get $at) (local.get $list))
    (i32.store offset=8 (local.get $at) (local.get $len)))

  ;; An output has 48 bytes: topic 0 (4, 8), key 12 (16, 20), headers 24 (28, 32), payload 36 (40, 44). This one has the value of
  ;; the first header for a key, the key for a payload, and one header: the name of the first, with offset, timestamp and now.
  (func $echo (param $now i64) (param $record i32) (result i32)
    (local $at i32) (local $header i32) (local $own i32) (local $times i32)
    (local.set $header (i32.load offset=28 (local.get $record)))
    (local.set $times (call $zeroes (i32.const 24)))
    (i64.store (local.get $times) (i64.load (local.get $record)))
    (i64.store offset=8 (local.get $times) (i64.load offset=8 (local.get $record)))
    (i64.store offset=16 (local.get $times) (local.get $now))
    (local.set $own (call $zeroes (i32.const 16)))
    (i64.store (local.get $own) (i64.load (local.get $header)))
    (i32.store offset=8 (local.get $own) (local.get $times))
    (i32.store offset=12 (local.get $own) (i32.const 24))
    (local.set $at (call $zeroes (i32.const 48)))
    (i32.store8 offset=12 (local.get $at) (i32.const 2))
    (i64.store offset=16 align=4 (local.get $at) (i64.load offset=8 (local.get $header)))
    (i32.store8 offset=24 (local.get $at) (i32.const 1))
    (i32.store offset=28 (local.get $at) (local.get $own))
    (i32.store offset=32 (local.get $at) (i32.const 1))
    (i32.store8 offset=36 (local.get $at) (i32.const 2))
    (i64.store offset=40 align=4 (local.get $at) (i64.load offset=20 align=4 (local.get $record)))
    (local.get $at))

  ;; An output whose key and payload are of this kind (1: removed), with so many headers without names.
  (func $bare (param $kind i32) (param $headers i32) (result i32)
    (local $at i32)
    (local.set $at (call $zeroes (i32.const 48)))
    (i32.store8 offset=12 (local.get $at) (local.get $kind))
    (i32.store8 offset=24 (local.get $at) (i32.const 1))
    (i32.store offset=28 (local.get $at) (call $zeroes (i32.mul (local.get $headers) (i32.const 16))))
    (i32.store offset=32 (local.get $at) (local.get $headers))
    (i32.store8 offset=36 (local.get $at) (local.get $kind))
    (local.get $at))

  (func $zeroes (param $len i32) (result i32)
    (local $at i32)
    (local.set $at (call $alloc (i32.const 0) (i32.const 0) (i32.const 8) (local.get $len)))
    (memory.fill (local.get $at) (i32.const 0) (local.get $len))
    (local.get $at)))
