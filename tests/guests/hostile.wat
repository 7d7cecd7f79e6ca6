;; Misbehaves in `configure` as the first character of its configuration, a JSON string, says, and in `process` as the
;; first byte of a payload says. Keeps every other record.
(module
  (import "millstream:module/log@1.0.0" "write" (func $log (param i32 i32 i32)))
  ;;@prelude
  (table $table 10 funcref)
  ;; Calls that this instance has served.
  (global $calls (mut i32) (i32.const 0))
  (data (i32.const 1024) "panicked at 'no such carrier', src/lib.rs:42:7")
  (data (i32.const 1104) "not.announced")
  (data (i32.const 1120) "a..b")
  (data (i32.const 1136) "later, please")
  (data (i32.const 1152) "this will never do")

  (func $panic
    (call $log (i32.const 5) (i32.const 1024) (i32.const 46))
    unreachable)
  (func $forever (loop $again (br $again)))
  (func $deep (param i32) (result i32)
    (i32.add (i32.const 1) (call $deep (i32.add (local.get 0) (i32.const 1)))))
  ;; Takes memory until there is no more, as an allocator does, then gives up.
  (func $devour
    (loop $again
      (br_if $again (i32.ne (i32.const -1) (memory.grow (i32.const 16)))))
    unreachable)
  (func $grow_table
    (if (i32.eq (i32.const -1) (table.grow $table (ref.null func) (i32.const 1000000)))
      (then unreachable)))

  (func (export "configure")
    (param $contract i32) (param $topic i32) (param $topic_len i32) (param $sub i32) (param $sub_len i32)
    (param $config i32) (param $config_len i32) (param $max i64) (result i32)
    (local $how i32)
    (local.set $how (i32.load8_u offset=1 (local.get $config)))
    (if (i32.eq (local.get $how) (i32.const 0x72)) ;; r: refuse, with the configuration as the text
      (then (return (call $refuse (local.get $config) (local.get $config_len)))))
    (if (i32.eq (local.get $how) (i32.const 0x6c)) (then (call $forever))) ;; l
    (if (i32.eq (local.get $how) (i32.const 0x70)) (then (call $panic))) ;; p
    (if (i32.eq (local.get $how) (i32.const 0x6d)) (then (call $devour))) ;; m
    (if (i32.eq (local.get $how) (i32.const 0x6e)) ;; n: announce no verdicts
      (then (return (call $spec (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0)))))
    (if (i32.eq (local.get $how) (i32.const 0x62)) ;; b: announce a topic that is none
      (then
        (i32.store (i32.const 2048) (i32.const 1120))
        (i32.store (i32.const 2052) (i32.const 4))
        (return (call $spec (i32.const 1) (i32.const 5) (i32.const 2048) (i32.const 1)))))
    (call $spec (i32.const 1) (i32.const 5) (i32.const 0) (i32.const 0)))

  (func (export "process") (param $batch i32) (param $len i32) (result i32)
    (local $n i32) (local $i i32) (local $out i32) (local $how i32)
    (local.set $n (call $count (local.get $batch)))
    (local.set $out (call $verdicts (local.get $n)))
    (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
        (local.set $how (i32.load8_u (call $payload (local.get $batch) (local.get $i))))
        (if (i32.eq (local.get $how) (i32.const 0x4c)) (then (call $forever))) ;; L
        (if (i32.eq (local.get $how) (i32.const 0x54)) (then unreachable)) ;; T
        (if (i32.eq (local.get $how) (i32.const 0x50)) (then (call $panic))) ;; P
        (if (i32.eq (local.get $how) (i32.const 0x4d)) (then (call $devour))) ;; M
        (if (i32.eq (local.get $how) (i32.const 0x53)) (then (drop (call $deep (i32.const 0))))) ;; S
        (if (i32.eq (local.get $how) (i32.const 0x47)) (then (call $grow_table))) ;; G
        (if (i32.eq (local.get $how) (i32.const 0x45)) (then (drop (i32.load (i32.const -8))))) ;; E: out of bounds
        (if (i32.eq (local.get $how) (i32.const 0x4f)) ;; O: far too much output
          (then
            (return (call $ok
              (call $alloc (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8000000)) (i32.const 8000000)))))
        (if (i32.eq (local.get $how) (i32.const 0x57)) ;; W: an answer outside of memory
          (then (return (call $ok (i32.const 0x7fff0000) (i32.const 1000)))))
        (if (i32.eq (local.get $how) (i32.const 0x43)) ;; C: one verdict too many
          (then
            (i32.store offset=8 (local.get $out) (i32.add (local.get $n) (i32.const 1)))
            (return (call $ok (local.get $out) (i32.add (local.get $n) (i32.const 17))))))
        (if (i32.eq (local.get $how) (i32.const 0x4e)) ;; N: not verdicts at all
          (then (return (call $ok (i32.const 1024) (i32.const 46)))))
        (if (i32.eq (local.get $how) (i32.const 0x42)) ;; B: an unknown tag
          (then (i32.store8 offset=16 (i32.add (local.get $out) (local.get $i)) (i32.const 77))))
        (if (i32.eq (local.get $how) (i32.const 0x55)) ;; U: drop, which was not announced
          (then (i32.store8 offset=16 (i32.add (local.get $out) (local.get $i)) (i32.const 1))))
        (if (i32.eq (local.get $how) (i32.const 0x44)) ;; D: emit to a topic that was not announced
          (then
            (i32.store8 offset=16 (i32.add (local.get $out) (local.get $i)) (i32.const 2))
            (i32.store offset=12 (local.get $out) (i32.const 20)) ;; bytes of the bodies
            (drop (call $alloc (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 64)))
            (i32.store offset=16 (i32.add (local.get $out) (local.get $n)) (i32.const 1)) ;; outputs
            (i32.store8 offset=20 (i32.add (local.get $out) (local.get $n)) (i32.const 1)) ;; flags: topic
            (i32.store16 offset=21 (i32.add (local.get $out) (local.get $n)) (i32.const 13))
            (memory.copy (i32.add (i32.const 23) (i32.add (local.get $out) (local.get $n)))
              (i32.const 1104) (i32.const 13))
            (return (call $ok (local.get $out) (i32.add (local.get $n) (i32.const 36))))))
        (if (i32.eq (local.get $how) (i32.const 0x52)) ;; R: retry
          (then (return (call $failure (i32.const 0) (i32.const 1136) (i32.const 13)))))
        (if (i32.eq (local.get $how) (i32.const 0x4a)) ;; J: reject
          (then (return (call $failure (i32.const 1) (i32.const 1152) (i32.const 18)))))
        (if (i32.eq (local.get $how) (i32.const 0x46)) ;; F: fails in every call of an instance but the first
          (then (if (i32.gt_u (global.get $calls) (i32.const 1)) (then unreachable))))
        (if (i32.eq (local.get $how) (i32.const 0x56)) ;; V: writes line after line to the log
          (then
            (local.set $how (i32.const 5000))
            (loop $line
              (call $log (i32.const 2) (i32.const 1024) (i32.const 46))
              (local.set $how (i32.sub (local.get $how) (i32.const 1)))
              (br_if $line (local.get $how)))))
        (if (i32.eq (local.get $how) (i32.const 0x59)) ;; Y: writes 100,000 lines to the log
          (then
            (local.set $how (i32.const 100000))
            (loop $line
              (call $log (i32.const 2) (i32.const 1024) (i32.const 46))
              (local.set $how (i32.sub (local.get $how) (i32.const 1)))
              (br_if $line (local.get $how)))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $next)))
    (call $ok (local.get $out) (i32.add (local.get $n) (i32.const 16)))))
