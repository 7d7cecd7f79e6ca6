//! Compiles the stock modules to components.

use std::error::Error;
use std::path::{Path, PathBuf};

use millstream_guest_build::{Guest, Toolchain, sources};

const MODULES: [&str; 4] = ["headers", "json", "route", "redact"];
/// What the modules are made of beside themselves.
const SHARED: [&str; 5] =
    ["../predicate", "../../sdk", "../../sdk/macros", "../../runtime/types", "../../sdk/wit"];

#[expect(clippy::print_stdout, reason = "how a build script speaks to cargo")]
fn main() -> Result<(), Box<dyn Error>> {
    let here = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let filters = here.parent().ok_or("this crate lies in filters/")?;
    let modules = MODULES.map(|name| filters.join(name));
    let shared = SHARED.map(|dir| here.join(dir));
    for path in modules.iter().chain(&shared).flat_map(|dir| watched(dir)) {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    println!("cargo::rerun-if-changed=build.rs");
    let toolchain = Toolchain::find(&here)?;
    for (name, dir) in MODULES.iter().zip(&modules) {
        let component = Guest::new(dir).toolchain(toolchain.clone()).build()?;
        std::fs::write(out.join(name).with_extension("wasm"), component)?;
    }
    Ok(())
}

fn watched(dir: &Path) -> Vec<PathBuf> {
    match dir.ends_with("wit") {
        true => vec![dir.to_owned()],
        false => sources(dir),
    }
}
