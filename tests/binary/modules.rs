//! The author's loop: from `module new` to a module in the broker, as its README says.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use millstream_tests::{Binary, Output, millstream, root, run};
use serde_json::{Value, json};

/// A folder to work in, whose crates share what is compiled with other runs.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".cargo")).unwrap();
        let target = json!(root().join("target/authors"));
        std::fs::write(dir.path().join(".cargo/config.toml"), format!("[build]\ntarget-dir = {target}\n"))
            .unwrap();
        Self(dir)
    }

    fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }

    fn millstream(&self, dir: &Path, args: &[&str]) -> Output {
        run(
            Command::new(millstream())
                .args(args)
                .current_dir(self.path().join(dir))
                .env("CARGO_NET_OFFLINE", "true"),
            "",
        )
    }
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_new_module_works_at_once() {
    let desk = Desk::new();
    let sdk = root().join("sdk").display().to_string();
    for (kind, name) in [
        ("filter", "one-carrier"),
        ("map", "late"),
        ("flat_map", "legs"),
        ("route", "by_carrier"),
        ("processor", "totals"),
    ] {
        desk.millstream(Path::new(""), &["module", "new", name, "--kind", kind, "--sdk", &sdk]).ok();
        let dir = desk.path().join(name);
        // The versions that the rest of the tree is tested with, and no need of a network.
        std::fs::copy(root().join("Cargo.lock"), dir.join("Cargo.lock")).unwrap();
        let mut cargo = Command::new("cargo");
        cargo
            .args(["test", "--quiet"])
            .current_dir(&dir)
            .env("CARGO_NET_OFFLINE", "true")
            .env_remove("CARGO_TARGET_DIR");
        run(&mut cargo, "").ok();
        desk.millstream(Path::new(name), &["module", "build", "."]).ok();
        let wasm = format!("{name}.wasm");
        let sample = [
            &wasm,
            "--config",
            "@samples/config.json",
            "--input",
            "samples/input.ndjson",
            "--header",
            "carrier",
        ];
        let test = |more: &[&str]| {
            desk.millstream(Path::new(name), &[&["--json", "module", "test"], &sample[..], more].concat())
        };
        let report = parse(&test(&["--expect", "samples/expected.ndjson"]).ok());
        assert!(report["differs"].is_null() && report["records_in"] == 3, "{report}");
        assert!(report["fuel_per_record"].as_u64() > Some(100), "{report}");
        assert!(report["memory_bytes_peak"].as_u64() >= Some(64 << 10), "{report}");
        let again = parse(&test(&[]).ok());
        assert_eq!(
            (&again["fuel"], &again["differs"]),
            (&report["fuel"], &Value::Null),
            "fuel is the same each time"
        );

        let bench = [&["--json", "module", "bench"], &sample[..], &["--rounds", "2"]].concat();
        let bench = parse(&desk.millstream(Path::new(name), &bench).ok());
        for module in ["module", "floor"] {
            for figure in [
                "ns_per_record",
                "ns_per_record_p95",
                "instance_start_us",
                "memory_bytes_peak",
                "mb_per_second",
            ] {
                assert!(bench[module][figure].as_f64() > Some(0.0), "{module} {figure}: {bench}");
            }
        }
        let readme = std::fs::read_to_string(dir.join("README.md")).unwrap();
        assert!(readme.contains(&sample[1..].join(" ")) && !readme.contains("{{"), "{readme}");
    }

    // In the broker.
    let data = tempfile::tempdir().unwrap();
    let broker = Binary::serve(data.path());
    broker.run(["module", "push", desk.path().join("late/late.wasm").to_str().unwrap()]).ok();
    let described = broker.run(["module", "describe", "late"]).ok();
    let row =
        described.lines().find(|line| line.trim_start().starts_with("over_minutes")).expect("a row a field");
    for part in ["integer", "60", "A flight with a longer delay, in minutes, is late."] {
        assert!(row.contains(part), "{part}: {described}");
    }
    for part in ["map", "key, headers, payload", "log"] {
        assert!(described.contains(part), "{part}: {described}");
    }
    let schema =
        parse(&broker.run(["--json", "module", "describe", "late"]).ok())["manifest"]["config_schema"]
            .clone();
    assert_eq!(schema["properties"]["over_minutes"]["default"], 60);
    broker.run(["topic", "create", "t"]).ok();
    let subscribe =
        |config: &str| broker.run(["subscribe", "t", "--until-end", "--module", "late", "--config", config]);
    let refused = subscribe(r#"{"over_minutes": "60"}"#).fails(1);
    assert!(refused.contains(r#"config.over_minutes: "60" is not of type "integer""#), "{refused}");
    subscribe(r#"{"over_minutes": 60}"#).ok();
}

#[test]
fn what_comes_out_is_compared() {
    let desk = Desk::new();
    let write = |name: &str, text: &str| std::fs::write(desk.path().join(name), text).unwrap();
    write("in.ndjson", "{\"n\":1}\n{\"n\":2}\nnull\n");
    let test = |more: &[&str]| {
        let config = r#"{"pointer": "/n", "gt": 1, "select": ["n"]}"#;
        let common = [
            "module",
            "test",
            "std/json",
            "--config",
            config,
            "--input",
            "in.ndjson",
            "--expect",
            "out.ndjson",
        ];
        desk.millstream(Path::new(""), &[&common[..], more].concat())
    };
    assert!(test(&[]).fails(1).contains("--update writes"));
    test(&["--update"]).ok();
    let written = std::fs::read_to_string(desk.path().join("out.ndjson")).unwrap();
    assert_eq!(written, "{\"offset\":1,\"key\":null,\"headers\":{},\"payload\":{\"n\":2}}\n");
    test(&[]).ok();
    write("out.ndjson", "{\"offset\":0,\"rejected\":\"x\"}\n");
    let output = test(&[]);
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stdout.contains("\n-{\"offset\":0,\"rejected\":\"x\"}\n+{\"offset\":1,"), "{output:?}");
    assert!(output.stderr.contains("1 line missing, 1 not expected"), "{output:?}");
    write("out.ndjson", "not JSON\n");
    assert!(test(&[]).fails(1).contains("out.ndjson, line 1"));
    assert!(
        desk.millstream(Path::new(""), &["module", "test", "x.wasm", "--input", "in.ndjson", "--update"])
            .fails(2)
            .contains("--expect")
    );
}

#[test]
fn what_is_there_is_left_alone_and_bad_names_are_refused() {
    let desk = Desk::new();
    let new = |args: &[&str]| desk.millstream(Path::new(""), &[&["module", "new"], args].concat());
    std::fs::create_dir(desk.path().join("mine")).unwrap();
    assert!(new(&["mine", "--kind", "filter"]).fails(1).contains("mine"));
    assert!(new(&["../x", "--kind", "filter"]).fails(2).contains("a-z"));
    assert!(new(&["x", "--kind", "sieve"]).fails(2).contains("flat_map"));
    assert!(
        new(&["x", "--kind", "filter", "--sdk", "mine"])
            .fails(1)
            .contains("no source tree of millstream-sdk")
    );
    assert!(!desk.path().join("x").exists());
    // Without a source tree around, the SDK is the one of this version.
    new(&["x", "--kind", "filter"]).ok();
    let manifest = std::fs::read_to_string(desk.path().join("x/Cargo.toml")).unwrap();
    assert!(manifest.contains("millstream-sdk = \"0."), "{manifest}");
    let missing = desk.millstream(Path::new(""), &["module", "build", "nowhere"]);
    assert!(missing.fails(1).contains("Cargo.toml"));
}

#[test]
fn the_stock_modules_are_described() {
    let data = tempfile::tempdir().unwrap();
    let broker = Binary::serve(data.path());
    for (name, row) in
        [("headers", "equals"), ("json", "select"), ("route", "template"), ("redact", "mask_with")]
    {
        let described = broker.run(["module", "describe", &format!("std/{name}")]).ok();
        assert!(described.lines().any(|line| line.trim_start().starts_with(row)), "{described}");
    }
}
