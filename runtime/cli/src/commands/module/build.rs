//! `millstream module build`: a crate to a component.

use std::path::PathBuf;

use clap::Args;
use millstream_engine::{ConfigSchema, LoadError, Manifest};
use millstream_guest_build::Guest;
use serde_json::json;

use crate::{cli::Common, failure::Failure, output, progress};

const EXAMPLES: &str = "Example:
  millstream module build ./my-filter -o my-filter.wasm";

/// See the module's head.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Build {
    /// Folder of the crate's Cargo.toml
    dir: PathBuf,
    /// Where the module goes; NAME.wasm in the current folder, if it is not said
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Build {
    /// Runs the command.
    pub(crate) fn run(self, common: &Common) -> Result<(), Failure> {
        let spinner = progress::spinner(format!("compiling {}", self.dir.display()));
        let built = Guest::new(&self.dir).build();
        spinner.finish_and_clear();
        let wasm =
            built.map_err(|error| Failure::new(format!("cannot build {}: {error}", self.dir.display())))?;

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
}
