//! Our own rules about the tree: crate arrows, heads of files, sizes, and README commands that exist.

use std::{collections::BTreeMap, path::PathBuf, process::Command};

use millstream_tests::root;

/// Who may name whom, among our crates that make up the binary.
const ARROWS: &[(&str, &[&str])] = &[
    ("millstream-types", &[]),
    ("millstream-wire", &["types"]),
    ("millstream-quic", &["wire"]),
    ("millstream-store", &["types"]),
    ("millstream-engine", &["types"]),
    ("millstream-broker", &["types", "store", "engine"]),
    ("millstream-server", &["broker", "engine", "quic", "store", "types", "wire"]),
    ("millstream-client", &["quic", "types", "wire"]),
    ("millstream-sdk", &["types", "sdk-macros"]),
];

/// Which of our crates may name a crate that we keep in one place.
const KEPT: &[(&str, &[&str])] = &[
    // The bench measures the bare libraries beside which we are read.
    ("fjall", &["millstream-store", "millstream-bench"]),
    ("wasmtime", &["millstream-engine"]),
    // The tests speak raw QUIC as a hostile peer.
    (
        "quinn",
        &[
            "millstream-quic",
            "millstream-server",
            "millstream-client",
            "millstream-bench",
            "millstream-tests",
        ],
    ),
];

fn dependencies() -> BTreeMap<String, Vec<String>> {
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo metadata");
    let normal = |package: &cargo_metadata::Package| {
        let normal =
            package.dependencies.iter().filter(|one| one.kind == cargo_metadata::DependencyKind::Normal);
        normal.map(|one| one.name.clone()).collect()
    };
    metadata.packages.iter().map(|package| (package.name.to_string(), normal(package))).collect()
}

#[test]
fn crates_point_one_way() {
    let dependencies = dependencies();
    for (name, allowed) in ARROWS {
        let found = dependencies.get(*name).unwrap_or_else(|| panic!("no crate {name}"));
        let ours = found.iter().filter_map(|one| one.strip_prefix("millstream-"));
        let wrong: Vec<_> = ours.filter(|one| !allowed.contains(one)).collect();
        assert!(wrong.is_empty(), "{name} may not depend on {wrong:?}");
    }
}

#[test]
fn some_crates_are_named_in_one_place() {
    for (kept, allowed) in KEPT {
        for (name, found) in dependencies() {
            let names_it = found.iter().any(|one| one == kept);
            assert!(!names_it || allowed.contains(&name.as_str()), "{name} may not depend on {kept}");
        }
    }
}

#[test]
fn files_say_what_lives_in_them_and_are_one_room() {
    for path in tracked("*.rs") {
        let text = std::fs::read_to_string(&path).expect("a tracked file");
        assert!(text.starts_with("//!"), "{} does not open with //!", path.display());
        let lines = text.lines().count();
        assert!(lines <= 650, "{} has {lines} lines: find the wall", path.display());
    }
}

#[test]
fn commands_in_the_docs_exist() {
    let cli = std::fs::read_to_string(root().join("runtime/cli/src/cli.rs")).expect("the command line");
    let known: Vec<String> = cli
        .lines()
        .filter_map(|line| {
            line.trim().strip_suffix("),")?.split_once("(commands::").map(|(name, _)| name.to_lowercase())
        })
        .collect();
    assert!(known.contains(&"publish".to_owned()), "the commands are found: {known:?}");
    for path in tracked("*.md") {
        let text = std::fs::read_to_string(&path).expect("a tracked file");
        let blocks = text.split("```").skip(1).step_by(2);
        for line in blocks.flat_map(str::lines) {
            let Some(rest) = line.trim_start_matches("$ ").strip_prefix("millstream ") else { continue };
            let command = rest.split_whitespace().next().unwrap_or_default();
            let exists = command.starts_with('-') || known.iter().any(|known| known == command);
            assert!(exists, "{}: `millstream {command}` does not exist", path.display());
        }
    }
}

fn tracked(pattern: &str) -> Vec<PathBuf> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", pattern])
        .current_dir(root())
        .output();
    let listed = listed.expect("git lists the tree");
    let text = String::from_utf8(listed.stdout).expect("paths are UTF-8");
    // One that was deleted and not yet committed is listed too.
    let files: Vec<_> = text.lines().map(|line| root().join(line)).filter(|path| path.exists()).collect();
    assert!(!files.is_empty(), "no {pattern} found");
    files
}
