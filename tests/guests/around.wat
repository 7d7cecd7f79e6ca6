;; A component whose `process` is another core module's, which takes the place of $stranger. It configures itself, and lends its
;; memory to the host, by a module that is sound.
(component
  (core module $sound
    ;;@prelude
    (func (export "configure") (param i32 i32 i32 i32 i32 i32 i32 i64) (result i32)
      (call $spec (i32.const 1) (i32.const 15) (i32.const 0) (i32.const 0))))
  (core module $stranger
    (func (export "process") (param i32 i32) (result i32) unreachable))
  (core instance $sound (instantiate $sound))
  (core instance $stranger (instantiate $stranger))
  (alias core export $sound "memory" (core memory $memory))
  (alias core export $sound "cabi_realloc" (core func $realloc))
  (type $setup-type (record
    (field "contract" u32) (field "topic" string) (field "subscription" string) (field "config" string)
    (field "output-bytes-max" u64)))
  (export $setup "setup" (type $setup-type))
  (type $fields-type (flags "payload"))
  (export $fields "fields" (type $fields-type))
  (type $verdicts-type (flags "keep" "drop" "emit" "reject"))
  (export $verdicts "verdicts" (type $verdicts-type))
  (type $spec-type (record (field "fields" $fields) (field "verdicts" $verdicts) (field "topics" (list string))))
  (export $spec "spec" (type $spec-type))
  (type $failure-type (variant (case "retry" string) (case "reject" string)))
  (export $failure "failure" (type $failure-type))
  (type $configure-type (func (param "setup" $setup) (result (result $spec (error string)))))
  (type $process-type (func (param "batch" (list u8)) (result (result (list u8) (error $failure)))))
  (func $configure (type $configure-type)
    (canon lift (core func $sound "configure") (memory $memory) (realloc $realloc)))
  (func $process (type $process-type)
    (canon lift (core func $stranger "process") (memory $memory) (realloc $realloc)))
  (export "configure" (func $configure))
  (export "process" (func $process)))
