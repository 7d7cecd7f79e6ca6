//! `millstream module export`: a module of the registry as a file, or as an OCI artifact.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use millstream_client::ModuleInfo;
use millstream_engine::Manifest;
use serde_json::json;

use crate::{
    broker::connect,
    cli::Common,
    failure::Failure,
    oci::{self, Artifact},
    output, progress,
};

const EXAMPLES: &str = "What comes is checked against the module's SHA-256 before it is written.

With --oci the module becomes an OCI artifact in an image layout: a folder, or an archive if the path ends with .tar. Others
that are there stay. `skopeo copy oci:DIR:TAG docker://...` brings it into a registry.

Examples:
  millstream module export my-filter@1.0.0 -o my-filter.wasm
  millstream module export my-filter@1.0.0 --oci ./modules
  millstream module export my-filter@1.0.0 --oci modules.tar --tag 1.0.0";

/// See the module's head.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[command(group = ArgGroup::new("where").required(true).args(["output", "oci"]))]
pub(crate) struct Export {
    /// std/NAME, NAME@VERSION, NAME (newest) or sha256:HEX
    #[arg(value_name = "REF")]
    reference: String,
    /// Where the component goes
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// OCI image layout that the module is added to; made if there is none
    #[arg(long, value_name = "DIR|FILE.tar")]
    oci: Option<PathBuf>,
    /// What it is called in the layout; NAME-VERSION, if it is not said
    #[arg(long, requires = "oci", value_parser = oci::tag)]
    tag: Option<String>,
}

impl Export {
    /// Runs the command.
    pub(crate) async fn run(self, common: &Common) -> Result<(), Failure> {
        let client = connect(common).await?;
        let spinner = progress::spinner(format!("fetching {}", self.reference));
        let fetched = client.get_module(self.reference).await;
        spinner.finish_and_clear();
        let (module, wasm) = fetched?;
        client.close().await;
        let mut told = json!({ "name": module.name, "sha256": module.sha256, "bytes": module.bytes });
        let place = match (self.output, self.oci) {
            (Some(path), _) => {
                std::fs::write(&path, &wasm).map_err(|error| Failure::file("write", &path, &error))?;
                told["file"] = json!(path);
                path.display().to_string()
            }
            (None, Some(path)) => {
                let artifact = artifact(&module, &wasm, self.tag);
                let digest = oci::write(&path, &artifact)?;
                told["oci"] = json!({ "path": path, "tag": artifact.tag, "manifest": digest });
                format!("{} as {}, manifest {digest}", path.display(), artifact.tag)
            }
            (None, None) => return Err(Failure::usage("say where it goes: -o FILE or --oci DIR|FILE.tar")),
        };
        if common.json {
            return output::json(&told);
        }
        let bytes = output::bytes(module.bytes);
        output::line(format!("module {}, {bytes}, sha256:{} is in {place}", module.name, module.sha256))
    }
}

/// One without a name is called by its digest.
fn artifact<'a>(module: &'a ModuleInfo, wasm: &'a [u8], tag: Option<String>) -> Artifact<'a> {
    let manifest = Manifest::find(wasm).ok().flatten();
    let (name, version) = module.name.split_once('@').unwrap_or((&module.sha256, "0.0.0"));
    let tag = tag.unwrap_or_else(|| oci::default_tag(name, version));
    let description = manifest.and_then(|manifest| manifest.description);
    Artifact { name, version, description, created_ms: module.stored_ms, tag, wasm }
}
