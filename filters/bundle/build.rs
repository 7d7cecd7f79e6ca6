//! Compiles the stock modules to components.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use millstream_guest_build::{Guest, Toolchain, sources};

const MODULES: [&str; 13] = [
    "headers", "json", "route", "redact", "cel", "sample", "schema", "enrich", "flatten", "rename", "dedup",
    "throttle", "floor",
];
/// What the modules are made of beside themselves.
const SHARED: [&str; 4] = ["../predicate", "../../sdk", "../../sdk/macros", "../../runtime/types"];

/// Told to the crates that a module is made of: there, the hash tables of the validator take their seed from the module.
const CFG: [(&str, &str); 1] = [("schema", r#"getrandom_backend="custom""#)];

/// Versions of what they depend on.
const LOCK: &str = "../../Cargo.lock";

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Displayed, not debugged: the text says what to install.
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), Box<dyn Error>> {
    let here = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let filters = here.parent().ok_or("this crate lies in filters/")?;
    let modules = MODULES.map(|name| filters.join(name));
    let shared = SHARED.map(|dir| here.join(dir));
    let watched = modules.iter().chain(&shared).flat_map(|dir| sources(dir));
    for path in watched.chain([here.join("build.rs"), here.join("../../sdk/wit"), here.join(LOCK)]) {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    let toolchain = Toolchain::find(&here)?;
    for (name, dir) in MODULES.iter().zip(&modules) {
        let guest = Guest::new(dir).toolchain(toolchain.clone());
        let cfgs = CFG.iter().filter(|(module, _)| module == name);
        let component = cfgs.fold(guest, |guest, (_, cfg)| guest.cfg(*cfg)).build()?;
        std::fs::write(out.join(name).with_extension("wasm"), component)?;
    }
    Ok(())
}
