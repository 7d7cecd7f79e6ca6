//! `millstream module build`: a crate, or what another language's compiler made, to a component.

use std::io::{IsTerminal as _, stderr};
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use millstream_engine::{ConfigSchema, LoadError, Manifest};
use millstream_guest_build::{Guest, componentize, with_manifest};
use serde_json::json;

use crate::{cli::Common, failure::Failure, output, progress};

const EXAMPLES: &str = "A file is a core module with the bindings of wit-bindgen, of which a component is made, or a component, which stays as it
is. With --manifest it says what it is: its name, version and configuration.

Examples:
  millstream module build ./my-filter -o my-filter.wasm
  millstream module build core.wasm --manifest manifest.json -o my-filter.wasm";

/// See the module's head.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Build {
    /// Folder of the crate's Cargo.toml, or a .wasm file
    #[arg(value_name = "DIR|FILE")]
    source: PathBuf,
    /// What the module says of itself, a JSON object: docs/modules.md has its fields
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Where the module goes; NAME.wasm in the current folder, if it is not said
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Build {
    /// Runs the command.
    pub(crate) fn run(self, common: &Common) -> Result<(), Failure> {
        let wasm = self.component()?;

        let manifest = Manifest::find(&wasm).map_err(|error| Failure::new(error.to_string()))?;
        // One written by hand may be wrong: said here, not only when it is pushed.
        if let Some(schema) = manifest.as_ref().and_then(|manifest| manifest.config_schema.as_ref()) {
            ConfigSchema::new(schema)
                .map_err(|why| Failure::new(LoadError::ConfigSchema(why).to_string()))?;
        }
        let (name, version) = match &manifest {
            Some(manifest) => (manifest.name.as_str(), manifest.version.as_str()),
            None => ("module", "0.0.0"),
        };
        let output = self.output.unwrap_or_else(|| PathBuf::from(format!("{}.wasm", name.replace('/', "-"))));
        std::fs::write(&output, &wasm).map_err(|error| Failure::file("write", &output, &error))?;
        let (sha256, bytes) = (hex::encode(millstream_engine::digest(&wasm)), wasm.len() as u64);
        if common.json {
            return output::json(&json!({
                "file": output,
                "name": format!("{name}@{version}"),
                "sha256": sha256,
                "bytes": bytes,
            }));
        }
        output::line(format!(
            "{} is {name}@{version}, {}, sha256:{sha256}",
            output.display(),
            output::bytes(bytes)
        ))
    }

    fn component(&self) -> Result<Vec<u8>, Failure> {
        let read = |path| std::fs::read(path).map_err(|error| Failure::file("read", path, &error));
        let cannot = |error| Failure::new(format!("cannot build {}: {error}", self.source.display()));
        let wasm = if self.source.is_file() {
            let wasm = read(&self.source)?;
            if is_component(&wasm) { wasm } else { componentize(&wasm).map_err(cannot)? }
        } else {
            self.compile()?
        };
        let Some(path) = &self.manifest else { return Ok(wasm) };
        let text = String::from_utf8(read(path)?)
            .map_err(|error| Failure::new(format!("{} is not UTF-8: {error}", path.display())))?;
        with_manifest(&wasm, &text).map_err(cannot)
    }

    fn compile(&self) -> Result<Vec<u8>, Failure> {
        let source = self.source.display();
        let mut guest = Guest::new(&self.source);
        if let Some(dir) = target_dir()? {
            guest = guest.target_dir(dir);
        }
        // It may take a minute, and where no spinner turns a line says so.
        let lines = !stderr().is_terminal();
        let (spinner, start) = (progress::spinner(format!("compiling {source}")), Instant::now());
        if lines {
            eprintln!("compiling {source}");
        }
        let built = guest.build();
        spinner.finish_and_clear();
        let wasm = built.map_err(|error| Failure::new(format!("cannot build {source}: {error}")))?;
        if lines {
            eprintln!("compiled {source} in {:.1} s", start.elapsed().as_secs_f64());
        }
        Ok(wasm)
    }
}

/// Where cargo is told to keep what it makes; apart there from what it makes for the host.
fn target_dir() -> Result<Option<PathBuf>, Failure> {
    let Some(dir) = std::env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty()).map(PathBuf::from)
    else {
        return Ok(None);
    };
    let dir = std::path::absolute(&dir).map_err(|error| Failure::file("find", &dir, &error))?;
    Ok(Some(dir.join("guests")))
}

/// Byte 6 tells a component from a core module.
fn is_component(wasm: &[u8]) -> bool {
    wasm.starts_with(b"\0asm") && wasm.get(6) == Some(&1)
}
