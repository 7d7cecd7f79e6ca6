//! Finding a compiler for the guest's target.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::BuildError;
use crate::cargo::clear_outer;
use crate::process::output_within;

/// The target that guests are compiled for: WASM without an operating system.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// Debian's own compiler, which its setup script installs.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
/// Asking a compiler about itself takes milliseconds; the first call under rustup may install a toolchain.
const ASK_LIMIT: Duration = Duration::from_secs(30);
/// Without a network rustup retries for minutes.
const RUSTUP_LIMIT: Duration = Duration::from_secs(60);

/// A way to compile for [`TARGET`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Toolchain {
    /// The `cargo` and `rustc` in use, with the target installed.
    Installed,
    /// A compiler that comes without the target but with the sources of its standard library, which it builds.
    BuildStd {
        /// The compiler.
        rustc: PathBuf,
        /// Its cargo.
        cargo: PathBuf,
        /// The WASM linker.
        linker: PathBuf,
    },
}

impl Toolchain {
    /// Finds a toolchain for the crate in `dir`; may call `rustup target add`, which takes up to a minute.
    ///
    /// # Errors
    /// [`BuildError::NoToolchain`], which says what was tried.
    pub fn find(dir: &Path) -> Result<Self, BuildError> {
        let mut tried = Vec::new();
        match installed(dir) {
            Ok(()) => return Ok(Self::Installed),
            Err(why) => tried.push(format!("installed target: {why}")),
        }
        // Before rustup, which waits a minute for a network that may not be there, at every build.
        match build_std() {
            Ok(found) => return Ok(found),
            Err(why) => tried.push(format!("Debian's compiler: {why}")),
        }
        match add_target(dir).and_then(|()| installed(dir)) {
            Ok(()) => Ok(Self::Installed),
            Err(why) => {
                tried.push(format!("rustup target add {TARGET}: {why}"));
                Err(BuildError::NoToolchain { tried })
            }
        }
    }

    /// The cargo to call.
    pub(crate) fn cargo(&self) -> OsString {
        match self {
            Self::Installed => "cargo".into(),
            Self::BuildStd { cargo, .. } => cargo.into(),
        }
    }
}

impl std::fmt::Display for Toolchain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Installed => write!(f, "the installed target {TARGET}"),
            Self::BuildStd { rustc, linker, .. } => {
                write!(f, "{} with its own build of std, linked by {}", rustc.display(), linker.display())
            }
        }
    }
}

/// Whether the compiler that cargo would use in `dir` has the target's standard library.
fn installed(dir: &Path) -> Result<(), String> {
    let libs =
        ask(Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]).current_dir(dir))?;
    let libs = PathBuf::from(libs);
    let has_std = std::fs::read_dir(&libs).is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-"))
    });
    if has_std { Ok(()) } else { Err(format!("no standard library in {}", libs.display())) }
}

fn add_target(dir: &Path) -> Result<(), String> {
    let mut command = Command::new("rustup");
    command.args(["target", "add", TARGET]).current_dir(dir);
    clear_outer(&mut command);
    let output = output_within(&mut command, RUSTUP_LIMIT).map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(last_line(&output.stderr)) }
}

/// Debian's compiler, if its standard library's sources and a WASM linker are there.
fn build_std() -> Result<Toolchain, String> {
    let (rustc, cargo) = (PathBuf::from(DEBIAN_RUSTC), PathBuf::from(DEBIAN_CARGO));
    for program in [&rustc, &cargo] {
        if !program.exists() {
            return Err(format!("{} is not there", program.display()));
        }
    }
    let sysroot = PathBuf::from(ask(Command::new(&rustc).args(["--print", "sysroot"]))?);
    let sources = sysroot.join("lib/rustlib/src/rust/library/std/Cargo.toml");
    if !sources.exists() {
        return Err(format!("{} is not there: install rust-web-src or rust-src", sources.display()));
    }
    let linker = linker().ok_or("no WASM linker: install lld-19, or any Rust toolchain by rustup")?;
    Ok(Toolchain::BuildStd { rustc, cargo, linker })
}

/// rustup's `rust-lld`, which is as new as the compiler, or a `wasm-ld` of the system.
fn linker() -> Option<PathBuf> {
    let in_rustup = ask(Command::new("rustc").args(["--print", "target-libdir"]))
        .ok()
        .and_then(|libs| Some(Path::new(&libs).parent()?.join("bin/rust-lld")));
    let in_system = ["wasm-ld", "wasm-ld-22", "wasm-ld-21", "wasm-ld-20", "wasm-ld-19"];
    let in_system = in_system.iter().map(|name| Path::new("/usr/bin").join(name));
    in_rustup.into_iter().chain(in_system).find(|linker| linker.exists())
}

fn ask(command: &mut Command) -> Result<String, String> {
    clear_outer(command);
    let program = command.get_program().to_string_lossy().into_owned();
    let output =
        output_within(command, ASK_LIMIT).map_err(|error| format!("{program} does not run: {error}"))?;
    if !output.status.success() {
        return Err(format!("{program}: {}", last_line(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn last_line(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing").trim().to_owned()
}
