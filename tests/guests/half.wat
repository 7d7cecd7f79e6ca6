;; A component that exports `configure`, of another type than the contract's, and no `process`.
(component
  (core module $m (func (export "f")))
  (core instance $i (instantiate $m))
  (func (export "configure") (canon lift (core func $i "f"))))
