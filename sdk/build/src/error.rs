//! Why a guest could not be built, and what to do.

use std::path::PathBuf;

/// Why a guest could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Nothing here compiles for `wasm32-unknown-unknown`.
    #[error(
        "no Rust compiler for wasm32-unknown-unknown was found:\n{}\nInstall one: `rustup target add wasm32-unknown-unknown`; \
         or, on Debian without access to static.rust-lang.org, `apt-get install rustc-web cargo-web rust-web-src lld-19` \
         (as root; `sdk/setup.sh` does either)",
        tried.iter().map(|line| format!("  - {line}")).collect::<Vec<_>>().join("\n")
    )]
    NoToolchain {
        /// Each way that was tried, and why it failed.
        tried: Vec<String>,
    },
    /// Not the folder of a crate.
    #[error("{} has no Cargo.toml: give the folder of a crate that depends on millstream-sdk", .0.display())]
    NotACrate(PathBuf),
    /// Cargo did not answer as expected.
    #[error("cargo could not describe the crate in {}: {why}", dir.display())]
    Describe {
        /// The crate's folder.
        dir: PathBuf,
        /// What it said.
        why: String,
    },
    /// A program could not be started, or a file not be read.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The crate does not compile.
    #[error("the crate in {} does not compile for wasm32-unknown-unknown (with {toolchain}):\n{output}", dir.display())]
    Compile {
        /// The crate's folder.
        dir: PathBuf,
        /// What compiled it.
        toolchain: String,
        /// What the compiler said.
        output: String,
    },
    /// What was compiled is not a module.
    #[error(
        "this is no module: {0}. In a crate with the SDK, mark one function with #[filter], #[map], #[flat_map] or #[route]; in any \
         other, export a world of sdk/wit/module.wit; and use nothing that needs an operating system"
    )]
    Component(String),
}

impl BuildError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_compiler_the_ways_to_get_one_are_told() {
        let tried =
            vec!["installed target: no standard library in /x".to_owned(), "rustup: no network".to_owned()];
        let error = BuildError::NoToolchain { tried }.to_string();
        for wanted in [
            "\n  - installed target: no standard library in /x\n  - rustup: no network\n",
            "`rustup target add wasm32-unknown-unknown`",
            "`apt-get install rustc-web cargo-web rust-web-src lld-19`",
        ] {
            assert!(error.contains(wanted), "{wanted} is not in {error}");
        }
    }
}
