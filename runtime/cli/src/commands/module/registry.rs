//! `millstream module push`, `list`, `describe`: the broker's registry.

use std::path::PathBuf;

use clap::Args;
use millstream_client::{ModuleInfo, ModuleName};
use millstream_engine::Manifest;
use serde_json::Value;

use super::fields;
use crate::{broker::connect, cli::Common, failure::Failure, output, progress};

const EXAMPLES: &str =
    "A name and version, once taken, always mean the same bytes; pushing those again changes nothing.

Example:
  millstream module push my-filter.wasm --name my-filter@1.0.0";

/// `millstream module push`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Push {
    /// The module
    file: PathBuf,
    /// Its name and version; as the module says of itself, if it is not said
    #[arg(long, value_name = "NAME@VERSION")]
    name: Option<ModuleName>,
}

impl Push {
    /// Runs the command.
    pub(crate) async fn run(self, common: &Common) -> Result<(), Failure> {
        let wasm = std::fs::read(&self.file).map_err(|error| Failure::file("read", &self.file, &error))?;
        let name = match self.name {
            Some(name) => name,
            None => own_name(&wasm)?,
        };
        let client = connect(common).await?;
        let spinner = progress::spinner(format!("pushing {name}"));
        let pushed = client.put_module(name, wasm.into()).await;
        spinner.finish_and_clear();
        let module = pushed?;
        if common.json {
            output::json(&to_json(&module))?;
        } else {
            let bytes = output::bytes(module.bytes);
            output::line(format!("module {}, {bytes}, sha256:{}", module.name, module.sha256))?;
        }
        client.close().await;
        Ok(())
    }
}

/// `millstream module list`.
pub(crate) async fn list(common: &Common) -> Result<(), Failure> {
    let client = connect(common).await?;
    let modules = client.list_modules().await?;
    if common.json {
        output::json(&modules.iter().map(to_json).collect::<Vec<_>>())?;
    } else {
        let rows = modules.iter().map(|module| {
            let digest: String = module.sha256.chars().take(12).collect();
            [module.name.clone(), output::bytes(module.bytes), digest, stored(module)]
        });
        output::line(output::table(["MODULE", "SIZE", "SHA-256", "STORED"], rows).to_string())?;
    }
    client.close().await;
    Ok(())
}

/// `millstream module describe`.
pub(crate) async fn describe(common: &Common, reference: String) -> Result<(), Failure> {
    let client = connect(common).await?;
    let module = client.describe_module(reference).await?;
    if common.json {
        output::json(&to_json(&module))?;
    } else {
        output::line(format!(
            "module        {}\nSHA-256       {}\nsize          {}\nstored        {}",
            module.name,
            module.sha256,
            output::bytes(module.bytes),
            stored(&module),
        ))?;
        fields::print(&manifest(&module))?;
    }
    client.close().await;
    Ok(())
}

fn own_name(wasm: &[u8]) -> Result<ModuleName, Failure> {
    if !wasm.starts_with(b"\0asm") {
        return Err(Failure::new("the file is not WebAssembly: build it with `millstream module build`"));
    }
    let hint = "give --name NAME@VERSION";
    let manifest = Manifest::find(wasm).map_err(|error| Failure::new(error.to_string()))?;
    let manifest =
        manifest.ok_or_else(|| Failure::new(format!("the file does not say what it is: {hint}")))?;
    ModuleName::new(format!("{}@{}", manifest.name, manifest.version))
        .map_err(|error| Failure::new(error.to_string()).and(hint))
}

/// The manifest as JSON in the JSON, not as a text.
fn to_json(module: &ModuleInfo) -> Value {
    let mut value = serde_json::to_value(module).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.insert("manifest".to_owned(), manifest(module));
    }
    value
}

fn manifest(module: &ModuleInfo) -> Value {
    let text = module.manifest.as_deref().unwrap_or("null");
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

fn stored(module: &ModuleInfo) -> String {
    match module.stored_ms {
        0 => "with the broker".to_owned(),
        ms => output::time(ms),
    }
}
