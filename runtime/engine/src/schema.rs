//! What a module says of its configuration: a JSON Schema (draft 2020-12) in its manifest, which configurations are held to
//! before the module sees them.
//!
//! Schema and configuration both come from strangers, and a schema of a few lines can ask for more steps than there are
//! atoms. So this is a validator of our own that counts its steps and its depth, for the keywords that describe
//! configurations; the `jsonschema` crate cannot be bounded so, and did not come to an end in a test of this kind.

mod check;
mod fault;
mod node;
mod outline;
mod parse;

use serde_json::Value;

use self::check::Check;
pub use self::fault::FieldFault;
use self::node::Node;

/// Most faults told of one configuration.
const FAULTS_MAX: usize = 3;

/// A schema of configurations, ready to be used.
pub struct ConfigSchema {
    document: Value,
    nodes: Vec<Node>,
    root: usize,
}

impl ConfigSchema {
    /// Reads `document`. References lead into its own `$defs`; `format` and unknown keywords say nothing.
    ///
    /// # Errors
    /// A text that names the part at fault.
    pub fn new(document: &Value) -> Result<Self, String> {
        let (nodes, root) = parse::parse(document)?;
        Ok(Self { document: document.clone(), nodes, root })
    }

    /// The schema as the module has it.
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// Holds `config`, a JSON text, to the schema.
    ///
    /// # Errors
    /// The first few faults, each with the path of its field.
    pub fn check(&self, config: &str) -> Result<(), Vec<FieldFault>> {
        let whole = |fault: String| vec![FieldFault { path: "config".to_owned(), fault }];
        let config: Value = serde_json::from_str(config).map_err(|error| whole(error.to_string()))?;
        let faults = Check::new(&self.nodes).run(self.root, &config);
        let mut faults =
            faults.map_err(|why| whole(format!("cannot be held to the module's schema: {why}")))?;
        faults.truncate(FAULTS_MAX);
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}

impl std::fmt::Debug for ConfigSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ConfigSchema").field(&self.document).finish()
    }
}

#[cfg(test)]
mod tests;
