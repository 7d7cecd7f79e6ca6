//! The registry from the command line: signed, pushed, listed, exported, deleted.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use millstream_tests::{Binary, Output, guest, millstream, run};
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// `millstream module`, in `dir`, without a broker.
fn module(dir: &Path, args: &[&str]) -> Output {
    run(Command::new(millstream()).arg("module").args(args).current_dir(dir), "")
}

fn stock(dir: &Path) {
    fs::write(dir.join("a.wasm"), millstream_filters::stock()[0].wasm).unwrap();
}

#[test]
fn modules_are_signed_and_checked_without_a_broker() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    stock(dir);
    let made = json(&module(dir, &["keygen", "-o", "key.pem", "--json"]).ok());
    let id = made["key"].as_str().unwrap().to_owned();
    assert_eq!((id.len(), &made["public"]), (16, &"key.pub.pem".into()));
    assert_eq!(fs::metadata(dir.join("key.pem")).unwrap().permissions().mode() & 0o777, 0o600);
    let key = fs::read(dir.join("key.pem")).unwrap();
    assert!(module(dir, &["keygen", "-o", "key.pem"]).fails(1).contains("not written over"));
    assert_eq!(fs::read(dir.join("key.pem")).unwrap(), key);
    module(dir, &["keygen", "-o", "other.pem"]).ok();

    let unsigned = module(dir, &["verify", "a.wasm", "--key", "key.pub.pem"]).fails(1);
    assert!(unsigned.contains("not signed") && unsigned.contains(&id), "{unsigned}");
    let signed = json(&module(dir, &["sign", "a.wasm", "--key", "key.pem", "-o", "b.wasm", "--json"]).ok());
    assert_eq!((&signed["key"], &signed["file"]), (&id.as_str().into(), &"b.wasm".into()));
    assert_eq!(fs::read(dir.join("a.wasm")).unwrap(), millstream_filters::stock()[0].wasm);
    module(dir, &["sign", "b.wasm", "--key", "other.pem"]).ok();
    let verified = json(&module(dir, &["verify", "b.wasm", "--key", "key.pub.pem", "--json"]).ok());
    assert_eq!(verified["signers"].as_array().unwrap().len(), 2);
    assert!(module(dir, &["verify", "b.wasm", "--key", "key.pem"]).fails(1).contains("PUBLIC KEY is needed"));
    assert!(
        module(dir, &["sign", "key.pem", "--key", "key.pem"])
            .fails(1)
            .contains("not a WebAssembly component")
    );
    let mut changed = fs::read(dir.join("b.wasm")).unwrap();
    changed[100] ^= 1;
    fs::write(dir.join("c.wasm"), changed).unwrap();
    module(dir, &["verify", "c.wasm", "--key", "key.pub.pem"]).fails(1);
    // A signed module is a module.
    fs::write(dir.join("in"), "x\n").unwrap();
    let config = r#"{"header": "a", "exists": false}"#;
    module(dir, &["test", "b.wasm", "--config", config, "--input", "in"]).ok();
}

#[test]
fn modules_are_pushed_bound_exported_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    stock(dir);
    module(dir, &["keygen", "-o", "key.pem"]).ok();
    module(dir, &["sign", "a.wasm", "--key", "key.pem"]).ok();
    // The paths of keys are as seen from the file.
    fs::write(dir.join("m.toml"), "[modules]\ntrusted_keys = [\"key.pub.pem\"]\nrequire_signature = true\n")
        .unwrap();
    let data = dir.join("data");
    let config = dir.join("m.toml");
    let broker =
        Binary::serve_with(&data, &["--listen", "127.0.0.1:0", "--config", config.to_str().unwrap()]);
    let at = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let run = |args: &[&str]| broker.run([&["module"], args].concat());

    fs::write(dir.join("plain.wasm"), millstream_filters::stock()[1].wasm).unwrap();
    let refused = run(&["push", &at("plain.wasm"), "--name", "plain@1.0.0", "--json"]).fails(1);
    assert_eq!(json(&refused)["error"]["code"], "module_untrusted");
    for name in ["acme/a@1.0.0", "acme/a@1.1.0"] {
        run(&["push", &at("a.wasm"), "--name", name]).ok();
    }
    broker.run(["topic", "create", "t"]).ok();
    let config = r#"{"header": "a", "exists": true}"#;
    broker.run(["subscription", "create", "s", "t", "--module", "acme/a@1.0.0", "--config", config]).ok();

    let listed = json(&run(&["list", "--json"]).ok());
    let of = |name: &str| listed.as_array().unwrap().iter().find(|one| one["name"] == name).unwrap();
    assert_eq!((&of("acme/a@1.0.0")["bound"], &of("acme/a@1.1.0")["bound"]), (&1.into(), &0.into()));
    assert!(run(&["list"]).ok().contains("BOUND"));
    let described = json(&run(&["describe", "acme/a@1.0.0", "--json"]).ok());
    assert_eq!((&described["bound_by"][0], &described["signers"][0]["trusted"]), (&"s".into(), &true.into()));
    let described = run(&["describe", "acme/a@1.0.0"]).ok();
    assert!(described.contains("bound by      s\n") && described.contains("signed by "), "{described}");

    run(&["export", "acme/a@1.0.0", "-o", &at("out.wasm")]).ok();
    assert_eq!(fs::read(dir.join("out.wasm")).unwrap(), fs::read(dir.join("a.wasm")).unwrap());
    let digest = format!("sha256:{}", of("acme/a@1.0.0")["sha256"].as_str().unwrap());
    run(&["export", &digest, "-o", &at("out2.wasm")]).ok();
    assert!(run(&["describe", &digest]).ok().contains("bound by      s\n"));
    assert!(
        run(&["export", "nothing", "-o", &at("x.wasm")]).fails(1).contains("module nothing does not exist")
    );
    run(&["export", "acme/a@1.0.0"]).fails(2);

    // Into layouts, out of them, and into another broker.
    let other = Binary::serve(&dir.join("other"));
    for layout in ["layout", "layout.tar"] {
        for name in ["acme/a@1.0.0", "std/json"] {
            run(&["export", name, "--oci", &at(layout)]).ok();
        }
        let told = json(&run(&["export", "acme/a", "--oci", &at(layout), "--tag", "new", "--json"]).ok());
        assert_eq!((&told["name"], &told["oci"]["tag"]), (&"acme/a@1.1.0".into(), &"new".into()));
        let several = other.run(["module", "push", "--oci", &at(layout)]).fails(1);
        assert!(several.contains("3 manifests") && several.contains("acme-a-1.0.0"), "{several}");
        other.run(["module", "push", "--oci", &at(layout), "--tag", "new"]).ok();
        let pushed = other.run(["--json", "module", "push", "--oci", &at(layout), "--tag", "acme/a@1.0.0"]);
        let pushed = json(&pushed.ok());
        assert_eq!((&pushed["name"], &pushed["sha256"]), (&"acme/a@1.0.0".into(), &digits_of(&digest)));
        assert_eq!(pushed["signers"][0]["trusted"], false);
        // A stock module is the other broker's own, unless it gets another name.
        let args = ["module", "push", "--oci", &at(layout), "--tag", "std-json-0.1.0"];
        other.run(args).fails(1);
        other.run([&args[..], &["--name", "json@1.0.0"]].concat()).ok();
    }

    let bound = run(&["delete", "acme/a@1.0.0", "--json"]).fails(1);
    assert_eq!(json(&bound)["error"]["code"], "module_bound");
    assert!(run(&["delete", "acme/a"]).fails(1).contains("2 versions"));
    broker.run(["subscription", "delete", "s"]).ok();
    assert_eq!(json(&run(&["delete", "acme/a@1.0.0", "--json"]).ok())["deleted"], "acme/a@1.0.0");
    run(&["delete", "acme/a"]).ok();
    assert!(!run(&["list"]).ok().contains("acme"));
}

#[test]
fn a_module_of_another_language_is_told_of_and_runs() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("typed.wasm"), guest("typed")).unwrap();
    fs::write(dir.join("core.wasm"), b"\0asm\x01\0\0\0").unwrap();
    let manifest = r#"{"name": "desk", "version": "1.0.0", "config_schema": {"type": "string"}}"#;
    fs::write(dir.join("manifest.json"), manifest).unwrap();
    fs::write(dir.join("bad.json"), "{").unwrap();

    let core = module(dir, &["build", "core.wasm"]).fails(1);
    assert!(core.contains("core.wasm") && core.contains("`component-type`"), "{core}");
    let bad = module(dir, &["build", "typed.wasm", "--manifest", "bad.json"]).fails(1);
    assert!(bad.contains("manifest is malformed"), "{bad}");
    let build = ["build", "typed.wasm", "--manifest", "manifest.json", "-o", "desk.wasm", "--json"];
    assert_eq!(json(&module(dir, &build).ok())["name"], "desk@1.0.0");
    let again = module(dir, &["build", "desk.wasm", "--manifest", "manifest.json"]).fails(1);
    assert!(again.contains("a manifest already"), "{again}");

    fs::write(dir.join("in"), "-a\nD\nS\n").unwrap();
    let test = ["test", "desk.wasm", "--config", "\"x\"", "--input", "in", "--json"];
    module(dir, &test).ok();
    let small = module(dir, &[&test[..], &["--module-bytes", "1KiB"]].concat()).fails(1);
    assert!(small.contains("above the limit of 1024"), "{small}");
    let small = module(dir, &[&test[..], &["--memory-bytes", "64KiB"]].concat()).fails(1);
    assert!(small.contains("its limit is 65536"), "{small}");

    let broker = Binary::serve(&dir.join("data"));
    let at = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let pushed = json(&broker.run(["module", "push", &at("desk.wasm"), "--json"]).ok());
    assert_eq!((&pushed["name"], &pushed["judges_with"]), (&"desk@1.0.0".into(), &"process-records".into()));
    let described = |reference: &str| broker.run(["module", "describe", reference]).ok();
    assert!(described("desk").contains("judges with   process-records\n"), "{}", described("desk"));
    assert!(described("std/json").contains("judges with   process\n"), "{}", described("std/json"));
    broker.run(["topic", "create", "orders"]).ok();
    broker.run_with(["publish", "orders", "--format", "lines"], "-a\nD\nS\n").ok();
    let read = ["subscribe", "orders", "--until-end", "--module", "desk", "--config", "\"x\""];
    let left = broker.run(read).ok();
    assert_eq!(left.lines().collect::<Vec<_>>(), ["-a", "S"]);
}

fn digits_of(digest: &str) -> Value {
    digest.trim_start_matches("sha256:").into()
}
