//! The files a guest is made of, for `cargo::rerun-if-changed`.

use std::path::{Path, PathBuf};

/// What a build script names so that the guest in `dir` is built again when it changes: manifest, sources and build
/// script. Dependencies outside `dir` are the caller's to name.
pub fn sources(dir: &Path) -> Vec<PathBuf> {
    // Cargo watches folders in depth.
    ["Cargo.toml", "src", "build.rs"].iter().map(|name| dir.join(name)).filter(|path| path.exists()).collect()
}
