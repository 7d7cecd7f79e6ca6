//! From a document to its fields on one level.

use std::collections::BTreeSet;

use millstream_filter_predicate::{Node, quoted, unquoted};

use crate::config::{Arrays, Config};

/// As deep as a document may be; what is deeper would cost more stack than a module has.
const DEPTH_MAX: usize = 128;

/// The document on one level; `None` when it is so already.
pub(crate) fn flatten(text: &str, config: &Config) -> Result<Option<String>, String> {
    let document = Node::parse(text).map_err(|error| format!("the payload is not JSON: {error}"))?;
    let Node::Object(fields) = document else {
        return Err(format!("the payload is {}, not an object", kind(&document)));
    };
    if !fields.iter().any(|(_, node)| opens(node, config)) {
        return Ok(None);
    }
    let mut flat =
        Flat { config, names: BTreeSet::new(), out: String::with_capacity(text.len() + text.len() / 4) };
    flat.out.push('{');
    flat.object(fields, "", 1)?;
    flat.out.push('}');
    Ok(Some(flat.out))
}

struct Flat<'c> {
    config: &'c Config,
    names: BTreeSet<String>,
    out: String,
}

impl Flat<'_> {
    fn object(
        &mut self,
        fields: Vec<(std::borrow::Cow<'_, str>, Node<'_>)>,
        prefix: &str,
        depth: usize,
    ) -> Result<(), String> {
        for (name, node) in fields {
            // It was parsed as a name.
            let name = unquoted(&name).unwrap_or_default();
            self.value(format!("{prefix}{name}"), node, depth)?;
        }
        Ok(())
    }

    /// Writes the fields that `node` is made of; or itself, where there are none.
    fn value(&mut self, name: String, mut node: Node<'_>, depth: usize) -> Result<(), String> {
        if !opens(&node, self.config) {
            return self.field(name, &node);
        }
        if depth >= DEPTH_MAX {
            let shown: String = name.chars().take(60).collect();
            return Err(format!("the payload is nested more than {DEPTH_MAX} deep, at {shown:?}..."));
        }
        node.open().map_err(|error| format!("the payload is not JSON: {error}"))?;
        match node {
            Node::Object(fields) if !fields.is_empty() => {
                self.object(fields, &format!("{name}{}", self.config.separator), depth + 1)
            }
            Node::Array(elements) if !elements.is_empty() => {
                let mut elements = elements.into_iter().enumerate();
                elements.try_for_each(|(index, element)| {
                    self.value(format!("{name}{}{index}", self.config.separator), element, depth + 1)
                })
            }
            empty => self.field(name, &empty),
        }
    }

    fn field(&mut self, name: String, node: &Node<'_>) -> Result<(), String> {
        if !self.names.is_empty() {
            self.out.push(',');
        }
        self.out.push_str(&quoted(&name));
        self.out.push(':');
        node.write(&mut self.out);
        match self.names.replace(name) {
            None => Ok(()),
            Some(name) => Err(format!("two fields of the payload become {name:?}: choose another separator")),
        }
    }
}

/// Whether a value has fields of its own to bring up.
fn opens(node: &Node<'_>, config: &Config) -> bool {
    match node {
        Node::Text(text) => match text.as_bytes().first() {
            Some(b'{') => true,
            Some(b'[') => config.arrays == Arrays::Index,
            _ => false,
        },
        Node::Object(_) => true,
        Node::Array(_) => config.arrays == Arrays::Index,
    }
}

fn kind(node: &Node<'_>) -> &'static str {
    match node {
        Node::Array(_) => "an array",
        _ => "a single value",
    }
}
