//! `millstream topic ingest`: the modules that every published record goes through before it is stored.

use clap::Args;
use millstream_client::{Client, TopicInfo, TopicName};

use crate::{
    bindings::Pipeline,
    cli::Common,
    commands::subscription::{metrics, usage},
    failure::Failure,
    output,
};

const EXAMPLES: &str = "The modules are tried out first; what does not load, a bad configuration, or a module that emits to other topics, changes
nothing. Batches that are being judged are judged to their end by the modules before. What a module rejects is refused
to its producer with the reason, and the rest of the batch is stored; so is what a module fails on.

Example:
  millstream topic ingest orders --module std/schema --config @order.schema.json --module std/enrich --config @enrich.json
  millstream topic ingest orders --none";

/// `millstream topic ingest`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Ingest {
    /// Name of the topic
    name: TopicName,
    #[command(flatten)]
    modules: Modules,
    /// Records go by no module any more
    #[arg(long)]
    none: bool,
}

/// The modules of a topic's ingest, in order.
#[derive(Debug, Args)]
#[command(mut_arg("module", |arg| arg.help(
    "Module that records go through before they are stored: std/NAME, NAME@VERSION, NAME (newest) or a .wasm file. Repeat \
     it for a pipeline")))]
pub(crate) struct Modules {
    #[command(flatten)]
    pub(crate) pipeline: Pipeline,
}

impl Ingest {
    /// Runs the command.
    pub(crate) async fn run(self, common: &Common, client: &Client) -> Result<(), Failure> {
        let Self { name, modules: Modules { pipeline }, none } = self;
        let topic = match (pipeline.is_empty(), none) {
            (false, true) => return Err(Failure::usage("--none stands beside --module: write one of them")),
            (true, false) => {
                return Err(Failure::usage(
                    "nothing is to be changed: name modules with --module REF, or have none with --none",
                ));
            }
            _ => client.set_ingest(name, pipeline.upload(client).await?).await?,
        };
        match &topic.ingest {
            _ if common.json => output::json(&topic),
            None => output::line(format!("topic {}: records are stored as they are published", topic.name)),
            Some(ingest) => output::line(format!(
                "topic {}: records go through {} before they are stored (revision {})",
                topic.name,
                names(&topic),
                ingest.revision
            )),
        }
    }
}

/// The modules on one line; `-` for none.
pub(super) fn names(topic: &TopicInfo) -> String {
    let Some(ingest) = &topic.ingest else { return "-".to_owned() };
    let names: Vec<_> = ingest.pipeline.iter().map(|binding| binding.module.as_str()).collect();
    names.join(", ")
}

/// What `describe` says of it.
pub(super) fn lines(topic: &TopicInfo) -> Vec<String> {
    let Some(ingest) = &topic.ingest else { return Vec::new() };
    let modules = ingest.pipeline.iter().zip(&ingest.sha256);
    let mut lines: Vec<_> = modules
        // A line of its own, which a terminal of 80 columns does not break.
        .map(|(binding, sha256)| {
            format!("ingest      {} {}\n  sha256:{sha256}", binding.module, binding.config)
        })
        .collect();
    let count = output::count;
    lines.push(format!("            revision {}, since {}", ingest.revision, output::time(ingest.bound_ms)));
    lines.push(format!(
        "            {} in, {} rejected, {} at fault, {} dropped, {} changed",
        output::counted(ingest.records_in, "record"),
        count(ingest.rejected),
        count(ingest.faulted),
        count(ingest.dropped),
        count(ingest.changed),
    ));
    for used in &ingest.modules {
        lines.push(format!("            {}: {}", used.module, usage(used)));
        lines.extend(metrics(&used.metrics).map(|line| format!("              {line}")));
    }
    if let Some(fault) = &ingest.fault {
        lines.push(format!("            fault: {fault}"));
    }
    lines
}
