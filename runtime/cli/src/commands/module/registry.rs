//! `millstream module push`, `list`, `describe`, `delete`: the broker's registry.

use std::path::PathBuf;

use clap::Args;
use millstream_client::{ModuleInfo, ModuleName, ModuleSigner};
use millstream_engine::Manifest;
use serde_json::{Value, json};

use super::fields;
use crate::{
    broker::connect,
    cli::Common,
    commands::subscription::{metrics, usage},
    failure::Failure,
    oci, output, progress,
};

const EXAMPLES: &str =
    "A name and version, once taken, always mean the same bytes; pushing those again changes nothing.

With --oci the module comes out of an OCI image layout, a folder or a tar archive, and is called as its manifest says. Every
digest and size is checked.

Examples:
  millstream module push my-filter.wasm --name my-filter@1.0.0
  millstream module push --oci ./modules --tag my-filter-1.0.0
  skopeo copy docker://HOST/my-filter:1.0.0 oci-archive:my-filter.tar && millstream module push --oci my-filter.tar";

const DELETE_EXAMPLES: &str =
    "The name and version may be pushed again afterwards with the same bytes, and with no others.

Example:
  millstream module delete my-filter@1.0.0";

/// `millstream module push`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Push {
    /// The module
    #[arg(required_unless_present = "oci", conflicts_with = "oci")]
    file: Option<PathBuf>,
    /// OCI image layout that the module is in
    #[arg(long, value_name = "DIR|FILE.tar")]
    oci: Option<PathBuf>,
    /// Which module of the layout: a tag or NAME@VERSION; the only one, if it is not said
    #[arg(long, requires = "oci")]
    tag: Option<String>,
    /// Its name and version; as the module says of itself, if it is not said
    #[arg(long, value_name = "NAME@VERSION")]
    name: Option<ModuleName>,
}

impl Push {
    /// Runs the command.
    pub(crate) async fn run(self, common: &Common) -> Result<(), Failure> {
        let (wasm, called) = match (&self.file, &self.oci) {
            (_, Some(layout)) => {
                let found = oci::read(layout, self.tag.as_deref())?;
                (found.wasm, found.name)
            }
            (Some(file), None) => {
                let wasm = std::fs::read(file).map_err(|error| Failure::file("read", file, &error))?;
                (wasm, None)
            }
            (None, None) => return Err(Failure::usage("say which module: a FILE or --oci DIR|FILE.tar")),
        };
        let name = match (self.name, called) {
            (Some(name), _) => name,
            (None, Some(called)) => ModuleName::new(called)
                .map_err(|error| Failure::new(error.to_string()).and("give --name NAME@VERSION"))?,
            (None, None) => own_name(&wasm)?,
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
            let signed: Vec<_> = module.signers.iter().map(signer).collect();
            let bound = output::count(module.bound);
            [
                module.name.clone(),
                output::bytes(module.bytes),
                digest,
                bound,
                signed.join(" "),
                stored(module),
            ]
        });
        output::line(
            output::table(["MODULE", "SIZE", "SHA-256", "BOUND", "SIGNED BY", "STORED"], rows).to_string(),
        )?;
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
            "module        {}\nSHA-256       {}\nsize          {}\nstored        {}\njudges with   {}\ncapabilities  {}\nsigned by     {}\nbound by      {}",
            module.name,
            module.sha256,
            output::bytes(module.bytes),
            stored(&module),
            module.judges_with.as_deref().unwrap_or("-"),
            capabilities(&module),
            signers(&module),
            binders(&module),
        ))?;
        if let Some(used) = &module.usage {
            output::line(format!("used          {}", usage(used)))?;
            metrics(&used.metrics).try_for_each(|line| output::line(format!("              {line}")))?;
        }
        fields::print(&manifest(&module))?;
    }
    client.close().await;
    Ok(())
}

fn capabilities(module: &ModuleInfo) -> String {
    if module.capabilities.is_empty() { "-".to_owned() } else { module.capabilities.join(", ") }
}

/// `millstream module delete`.
#[derive(Debug, Args)]
#[command(after_help = DELETE_EXAMPLES)]
pub(crate) struct Delete {
    /// NAME@VERSION, or NAME if it has one version
    #[arg(value_name = "NAME@VERSION")]
    reference: String,
}

impl Delete {
    /// Runs the command.
    pub(crate) async fn run(self, common: &Common) -> Result<(), Failure> {
        let client = connect(common).await?;
        client.delete_module(self.reference.clone()).await?;
        if common.json {
            output::json(&json!({ "deleted": self.reference }))?;
        } else {
            output::line(format!("module {} deleted", self.reference))?;
        }
        client.close().await;
        Ok(())
    }
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

fn signers(module: &ModuleInfo) -> String {
    match module.signers.as_slice() {
        [] => "nobody".to_owned(),
        signers => signers.iter().map(signer).collect::<Vec<_>>().join(", "),
    }
}

/// Whom the broker does not trust is marked.
fn signer(signer: &ModuleSigner) -> String {
    if signer.trusted { signer.key.clone() } else { format!("{} (not trusted)", signer.key) }
}

fn binders(module: &ModuleInfo) -> String {
    let topics = module.ingest_of.iter().map(|topic| format!("the ingest of topic {topic}"));
    let named: Vec<_> = module.bound_by.iter().map(ToString::to_string).chain(topics).collect();
    match module.bound.saturating_sub(named.len() as u64) {
        0 if named.is_empty() => "nobody".to_owned(),
        0 => named.join(", "),
        more => format!("{} and {} more", named.join(", "), output::count(more)),
    }
}

fn stored(module: &ModuleInfo) -> String {
    match module.stored_ms {
        0 => "with the broker".to_owned(),
        ms => output::time(ms),
    }
}
