//! Compiles a crate to a WASM component, or makes one of a core module from another language: for build scripts and for
//! `millstream module build`.
//!
//! ```no_run
//! let component = millstream_guest_build::build(std::path::Path::new("my-filter"))?;
//! std::fs::write("my-filter.wasm", component)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! It needs a compiler for `wasm32-unknown-unknown` and finds the first of: the current toolchain with that target
//! installed; the same after `rustup target add`; Debian's `rustc` and `cargo` with `rust-web-src` (or `rust-src`), which
//! build the standard library themselves. `sdk/setup.sh` makes sure that there is one.

mod cargo;
mod component;
mod error;
mod process;
mod sources;
mod toolchain;

use std::path::{Path, PathBuf};

pub use component::{MANIFEST_SECTION, componentize, manifest, with_manifest};
pub use error::BuildError;
pub use sources::sources;
pub use toolchain::{TARGET, Toolchain};

/// What to build, and where.
#[derive(Debug, Clone)]
#[must_use]
pub struct Guest {
    dir: PathBuf,
    target_dir: Option<PathBuf>,
    toolchain: Option<Toolchain>,
    offline: bool,
    cfgs: Vec<String>,
}

/// Builds the crate in `dir` with what [`Guest`] chooses by default; answers the bytes of the component.
///
/// # Errors
/// [`BuildError`], which says what to do.
pub fn build(dir: &Path) -> Result<Vec<u8>, BuildError> {
    Guest::new(dir).build()
}

impl Guest {
    /// The crate in `dir`, the folder of its `Cargo.toml`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), target_dir: None, toolchain: None, offline: false, cfgs: Vec::new() }
    }

    /// Keeps build output in `dir`. Without it: `guests` in the target folder of the crate's workspace, apart from the
    /// folder that an outer cargo has locked.
    pub fn target_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.target_dir = Some(dir.into());
        self
    }

    /// Uses this toolchain instead of looking for one.
    pub fn toolchain(mut self, toolchain: Toolchain) -> Self {
        self.toolchain = Some(toolchain);
        self
    }

    /// Keeps cargo off the network.
    pub fn offline(mut self, offline: bool) -> Self {
        self.offline = offline;
        self
    }

    /// Compiles with `--cfg CFG`, the crate and all it depends on. Some crates ask so what to do without a system, as getrandom by
    /// `getrandom_backend="custom"`.
    pub fn cfg(mut self, cfg: impl Into<String>) -> Self {
        self.cfgs.push(cfg.into());
        self
    }

    /// Compiles the crate and makes it a component; answers its bytes.
    ///
    /// # Errors
    /// [`BuildError`], which says what to do.
    pub fn build(self) -> Result<Vec<u8>, BuildError> {
        // Before the toolchain is asked, which would only say that the folder is not there.
        if !self.dir.join("Cargo.toml").is_file() {
            return Err(BuildError::NotACrate(self.dir));
        }
        let toolchain = match self.toolchain {
            Some(toolchain) => toolchain,
            None => Toolchain::find(&self.dir)?,
        };
        let core = cargo::compile(&cargo::Compile {
            dir: &self.dir,
            target_dir: self.target_dir.as_deref(),
            toolchain: &toolchain,
            offline: self.offline,
            cfgs: &self.cfgs,
        })?;
        componentize(&core)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_a_crate_is_refused() {
        let error = build(Path::new("/nonexistent"));
        assert!(matches!(error, Err(BuildError::NotACrate(_))), "{error:?}");
    }

    #[test]
    fn a_missing_compiler_is_told_with_the_remedies() {
        let error = BuildError::NoToolchain { tried: vec!["rustup: not found".into()] }.to_string();
        for wanted in ["  - rustup: not found", "rustup target add wasm32-unknown-unknown", "apt-get install"]
        {
            assert!(error.contains(wanted), "{error}");
        }
    }
}
