//! Calling cargo for the guest, also from within the build script of another cargo.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::{BuildError, TARGET, Toolchain};

/// Small and fast guests in which a panic is a trap; given here so that a crate anywhere needs no profile of its own.
const PROFILE: [&str; 7] = [
    r#"profile.guest.inherits="release""#,
    "profile.guest.opt-level=3",
    r#"profile.guest.lto="fat""#,
    "profile.guest.codegen-units=1",
    "profile.guest.debug=false",
    r#"profile.guest.panic="abort""#,
    r#"profile.guest.strip="debuginfo""#,
];
/// JSON and text are searched several times faster with it, and every engine has it.
const FEATURES: &str = "-Ctarget-feature=+simd128";

/// One call of cargo.
pub(crate) struct Compile<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) target_dir: Option<&'a Path>,
    pub(crate) toolchain: &'a Toolchain,
    pub(crate) offline: bool,
    pub(crate) cfgs: &'a [String],
}

/// Compiles the crate's library; answers the bytes of the core module.
pub(crate) fn compile(request: &Compile<'_>) -> Result<Vec<u8>, BuildError> {
    let package = Package::of(request)?;
    let target_dir = match request.target_dir {
        Some(dir) => dir.to_owned(),
        None => package.target_dir.join("guests"),
    };
    // Where paths are remapped, cargo keeps what other flags made under the same names: each would undo the other's work.
    let target_dir = if request.cfgs.is_empty() { target_dir } else { target_dir.join("cfg") };
    let mut command = cargo(request);
    // `cargo rustc --crate-type`: the crate's own manifest need not say that it is a cdylib.
    command.args(["rustc", "--lib", "--crate-type", "cdylib", "--profile", "guest"]);
    command.args(["--target", TARGET, "--message-format", "json-render-diagnostics"]);
    for setting in PROFILE {
        command.args(["--config", setting]);
    }
    command.arg("--target-dir").arg(&target_dir);
    if let Toolchain::BuildStd { .. } = request.toolchain {
        command.args(["-Zbuild-std=std,panic_abort"]);
    }
    let output = command
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .output()
        .map_err(BuildError::io(format!("cannot run {}", request.toolchain.cargo().display())))?;
    if !output.status.success() {
        return Err(BuildError::Compile {
            dir: request.dir.to_owned(),
            toolchain: request.toolchain.to_string(),
            output: String::from_utf8_lossy(&output.stderr).trim_end().to_owned(),
        });
    }
    let artifact = artifact(&output.stdout, &package.id)
        .ok_or_else(|| BuildError::Component(format!("cargo built no .wasm file for {}", package.id)))?;
    std::fs::read(&artifact).map_err(BuildError::io(format!("cannot read {}", artifact.display())))
}

/// Takes away what an outer cargo, rustup's proxy or the user's host build set, since it is meant for the host.
pub(crate) fn clear_outer(command: &mut Command) {
    let names = std::env::vars_os().map(|(name, _)| name);
    names.filter(|name| is_outer(&name.to_string_lossy())).for_each(|name| {
        command.env_remove(name);
    });
}

/// Whether a variable speaks of the build around this one. Where things are and how to reach the network is kept.
fn is_outer(name: &str) -> bool {
    const KEPT: [&str; 9] = [
        "CARGO_HOME",
        "CARGO_TERM_COLOR",
        "CARGO_NET_",
        "CARGO_HTTP_",
        "CARGO_REGISTR",
        "CARGO_SOURCE_",
        "RUSTUP_HOME",
        "RUSTUP_TOOLCHAIN",
        "RUSTUP_DIST",
    ];
    const OUTER: [&str; 5] = ["CARGO", "RUST", "DEP_", "LLVM_PROFILE", "CLIPPY"];
    const OF_BUILD_SCRIPTS: [&str; 9] =
        ["TARGET", "HOST", "PROFILE", "OPT_LEVEL", "DEBUG", "OUT_DIR", "NUM_JOBS", "MAKEFLAGS", "MFLAGS"];
    // These are about what a program says, not how it is built.
    let of_programs = matches!(name, "RUST_LOG" | "RUST_BACKTRACE" | "RUST_MIN_STACK");
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    !of_programs && !starts(&KEPT) && (starts(&OUTER) || OF_BUILD_SCRIPTS.contains(&name))
}

/// Cargo in the crate's folder, with the environment that the toolchain needs.
fn cargo(request: &Compile<'_>) -> Command {
    let mut command = Command::new(request.toolchain.cargo());
    clear_outer(&mut command);
    command.current_dir(request.dir);
    let mut flags = vec![FEATURES.to_owned()];
    flags.extend(request.cfgs.iter().map(|cfg| format!("--cfg={cfg}")));
    // The digest of a module should not depend on whose home it was built in.
    if let Some(home) = cargo_home() {
        flags.push(format!("--remap-path-prefix={}=/cargo", home.display()));
    }
    command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    if request.offline {
        command.env("CARGO_NET_OFFLINE", "true");
    }
    if let Toolchain::BuildStd { rustc, linker, .. } = request.toolchain {
        command.env("RUSTC", rustc);
        command.env("RUSTC_BOOTSTRAP", "1");
        command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
    }
    command
}

fn cargo_home() -> Option<PathBuf> {
    std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")))
}

/// What cargo says of the crate.
struct Package {
    id: String,
    target_dir: PathBuf,
}

impl Package {
    fn of(request: &Compile<'_>) -> Result<Self, BuildError> {
        let manifest = request.dir.join("Cargo.toml");
        let manifest = manifest.canonicalize().map_err(|_| BuildError::NotACrate(request.dir.to_owned()))?;
        let fault = |why: String| BuildError::Describe { dir: request.dir.to_owned(), why };
        let output = cargo(request)
            .args(["metadata", "--format-version", "1", "--no-deps"])
            .output()
            .map_err(BuildError::io(format!("cannot run {}", request.toolchain.cargo().display())))?;
        if !output.status.success() {
            return Err(fault(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        let metadata: Value =
            serde_json::from_slice(&output.stdout).map_err(|error| fault(error.to_string()))?;
        let packages = metadata.get("packages").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let package = packages.iter().find(|package| {
            package.get("manifest_path").and_then(Value::as_str).map(Path::new) == Some(&manifest)
        });
        let package =
            package.ok_or_else(|| fault("its Cargo.toml is a workspace without a package".into()))?;
        let text = |value: &Value, field: &str| {
            let text = value.get(field).and_then(Value::as_str).map(str::to_owned);
            text.ok_or_else(|| fault(format!("`{field}` is missing")))
        };
        Ok(Self { id: text(package, "id")?, target_dir: text(&metadata, "target_directory")?.into() })
    }
}

/// The `.wasm` file that cargo reports for the package.
fn artifact(messages: &[u8], package: &str) -> Option<PathBuf> {
    let messages = messages.split(|byte| *byte == b'\n');
    let messages = messages.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let of_package = messages.filter(|message| {
        message.get("reason").and_then(Value::as_str) == Some("compiler-artifact")
            && message.get("package_id").and_then(Value::as_str) == Some(package)
    });
    let files =
        of_package.filter_map(|message| Some(message.get("filenames")?.as_array()?.clone())).flatten();
    files
        .filter_map(|file| file.as_str().map(PathBuf::from))
        .rfind(|file| file.extension() == Some(OsStr::new("wasm")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_build_around_sets_is_taken_away() {
        for outer in [
            "CARGO",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_TARGET_DIR",
            "CARGO_BUILD_TARGET",
            "CARGO_PKG_NAME",
            "RUSTC",
            "RUSTC_WORKSPACE_WRAPPER",
            "RUSTFLAGS",
            "RUSTDOCFLAGS",
            "OUT_DIR",
            "TARGET",
            "MAKEFLAGS",
            "DEP_Z_ROOT",
        ] {
            assert!(is_outer(outer), "{outer}");
        }
        for kept in [
            "PATH",
            "HOME",
            "CARGO_HOME",
            "CARGO_NET_OFFLINE",
            "CARGO_HTTP_CAINFO",
            "CARGO_REGISTRIES_CRATES_IO_PROTOCOL",
            "RUSTUP_HOME",
            "RUSTUP_TOOLCHAIN",
            "RUST_LOG",
            "HTTPS_PROXY",
        ] {
            assert!(!is_outer(kept), "{kept}");
        }
    }

    #[test]
    fn the_artifact_is_that_of_the_package() {
        let messages = br#"
{"reason":"compiler-artifact","package_id":"other","filenames":["/t/other.wasm"]}
{"reason":"compiler-artifact","package_id":"mine","filenames":["/t/mine.d","/t/mine.wasm"]}
not JSON
{"reason":"build-finished","success":true}"#;
        assert_eq!(artifact(messages, "mine"), Some(PathBuf::from("/t/mine.wasm")));
        assert_eq!(artifact(messages, "none"), None);
    }
}
