//! A compiled schema, and what it says of a payload.

use std::collections::BTreeMap;
use std::error::Error;

use boon::{CompileError, Compiler, Draft, SchemaIndex, Schemas, UrlLoader, ValidationError};
use millstream_filter_predicate::ConfigError;
use millstream_sdk::serde_json::Value;

/// Under which the schema is known, if it has no `$id`.
const URL: &str = "millstream:///schema";
/// Faults that a reason names; the rest is counted.
const FAULTS_MAX: usize = 3;
const FAULT_CHARS_MAX: usize = 200;

/// A compiled schema.
pub(crate) struct Validator {
    schemas: Schemas,
    root: SchemaIndex,
}

impl Validator {
    pub(crate) fn new(
        schema: Value,
        references: BTreeMap<String, Value>,
        formats: bool,
    ) -> Result<Self, ConfigError> {
        let mut compiler = Compiler::new();
        compiler.set_default_draft(Draft::V2020_12);
        compiler.use_loader(Box::new(NoLoader));
        if formats {
            compiler.enable_format_assertions();
        }
        let referred_at = |url: &str, error: &CompileError| {
            ConfigError::new(format!("config.references.{url}"), told(error))
        };
        let urls: Vec<String> = references.keys().cloned().collect();
        for (url, referred) in references {
            compiler.add_resource(&url, referred).map_err(|error| referred_at(&url, &error))?;
        }
        let at = |error: CompileError| ConfigError::new("config.schema", told(&error));
        compiler.add_resource(URL, schema).map_err(at)?;
        let mut schemas = Schemas::new();
        // Those that nothing refers to yet as well: what is wrong with one is told now, not when it is needed.
        for url in &urls {
            compiler.compile(url, &mut schemas).map_err(|error| referred_at(url, &error))?;
        }
        let root = compiler.compile(URL, &mut schemas).map_err(at)?;
        Ok(Self { schemas, root })
    }

    /// Whether `payload` is valid, or where it is not and why.
    pub(crate) fn check(&self, payload: &Value) -> Result<(), String> {
        self.schemas.validate(payload, self.root).map_err(|error| reason(&error))
    }
}

/// Refuses what is not in the configuration.
struct NoLoader;

impl UrlLoader for NoLoader {
    fn load(&self, _: &str) -> Result<Value, Box<dyn Error>> {
        Err("it is not in the configuration".into())
    }
}

fn told(error: &CompileError) -> String {
    match error {
        CompileError::LoadUrlError { url, .. } | CompileError::UnsupportedUrlScheme { url } => format!(
            "refers to {url}, and nothing is fetched: put that schema into `references`, as in {{\"{url}\": {{...}}}}"
        ),
        CompileError::ValidationError { src, .. } => format!("is no JSON Schema: {}", faults(src)),
        // In full, but without the name that it has only here.
        other => format!("{other:#}").replace(URL, ""),
    }
}

fn reason(error: &ValidationError<'_, '_>) -> String {
    format!("the payload does not fit the schema: {}", faults(error))
}

/// The faults found, in order of their places.
fn faults(error: &ValidationError<'_, '_>) -> String {
    let mut faults = Vec::new();
    collect(error, &mut faults);
    faults.sort_unstable();
    faults.dedup();
    let (found, more) = (faults.len(), faults.len().saturating_sub(FAULTS_MAX));
    faults.truncate(FAULTS_MAX);
    let told = faults.join("; ");
    match more {
        0 => told,
        _ => format!("{told}; and {more} more of {found}"),
    }
}

/// The innermost causes: those around them only say that something within is wrong.
fn collect(error: &ValidationError<'_, '_>, faults: &mut Vec<String>) {
    if !error.causes.is_empty() {
        return error.causes.iter().for_each(|cause| collect(cause, faults));
    }
    let place = error.instance_location.to_string();
    let place = if place.is_empty() { "the whole" } else { &place };
    let what: String = error.kind.to_string().chars().take(FAULT_CHARS_MAX).collect();
    faults.push(format!("{place}: {what}"));
}
