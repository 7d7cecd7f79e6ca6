//! Holds a configuration to a schema, in so many steps and so deep.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use serde_json::{Map, Number, Value};

use super::fault::{self, FieldFault, Found, Step, shown};
use super::node::{Bounds, Node, Type};
use super::outline;
use crate::limits::{SCHEMA_CHECK_DEPTH, SCHEMA_CHECK_UNITS};

/// Faults kept of one form of a value: enough to tell which form was meant.
const FAULTS_KEPT: usize = 8;
/// What telling a fault costs, in steps.
const FAULT_UNITS: u64 = 16;
/// Bytes or entries that cost as much as a step.
const BYTES_PER_UNIT: usize = 32;
/// Bytes looked at by a pattern that cost as much as a step.
const MATCHED_BYTES_PER_UNIT: usize = 8;

/// A check in progress.
pub(crate) struct Check<'a> {
    nodes: &'a [Node],
    left: u64,
    depth: usize,
    path: Vec<Step<'a>>,
}

type Checked = Result<(), &'static str>;

impl<'a> Check<'a> {
    pub(crate) fn new(nodes: &'a [Node]) -> Self {
        Self { nodes, left: SCHEMA_CHECK_UNITS, depth: 0, path: Vec::new() }
    }

    /// The faults of `config`.
    ///
    /// # Errors
    /// Why it was given up.
    pub(crate) fn run(mut self, root: usize, config: &'a Value) -> Result<Vec<FieldFault>, &'static str> {
        let mut faults = Vec::new();
        self.value(root, config, &mut faults)?;
        Ok(faults.into_iter().map(|found: Found| found.fault).collect())
    }

    fn spend(&mut self, units: u64) -> Checked {
        self.left = self.left.checked_sub(units).ok_or("that takes too many steps")?;
        Ok(())
    }

    fn value(&mut self, place: usize, value: &'a Value, faults: &mut Vec<Found>) -> Checked {
        let nodes = self.nodes;
        let Some(node) = nodes.get(place) else { return Ok(()) };
        if faults.len() >= FAULTS_KEPT {
            return Ok(());
        }
        self.depth += 1;
        if self.depth > SCHEMA_CHECK_DEPTH {
            return Err("that goes too deep");
        }
        self.spend(1)?;
        self.plain(node, value, faults)?;
        match value {
            Value::String(text) => self.text(node, text, value, faults)?,
            Value::Number(number) => self.number(node, number, value, faults)?,
            Value::Array(items) => self.array(node, items, value, faults)?,
            Value::Object(fields) => self.object(node, fields, value, faults)?,
            Value::Null | Value::Bool(_) => {}
        }
        self.applied(node, value, faults)?;
        self.depth -= 1;
        Ok(())
    }

    /// What is asked of any value.
    fn plain(&mut self, node: &Node, value: &Value, faults: &mut Vec<Found>) -> Checked {
        if node.never {
            self.fault(node, faults, format!("{} is not allowed", shown(value)))?;
        }
        if let Some(types) = &node.types
            && !types.iter().any(|one| one.has(value))
        {
            let names = types.iter().map(|one| format!("{:?}", one.name())).collect::<Vec<_>>().join(" or ");
            self.fault(node, faults, format!("{} is not of type {names}", shown(value)))?;
            if types.as_slice() == [Type::Null] {
                mark(faults);
            }
        }
        if let Some(constant) = &node.constant {
            self.spend(fault::bytes_up_to(constant, usize::MAX).div_ceil(BYTES_PER_UNIT) as u64)?;
            if !same(constant, value) {
                self.fault(node, faults, format!("{} is not {}", shown(value), shown(constant)))?;
                mark(faults);
            }
        }
        if let Some(options) = &node.options {
            let bytes: usize = options.iter().map(|option| fault::bytes_up_to(option, usize::MAX)).sum();
            self.spend(bytes.div_ceil(BYTES_PER_UNIT) as u64)?;
            if !options.iter().any(|option| same(option, value)) {
                let known = options.iter().map(shown).collect::<Vec<_>>();
                self.fault(node, faults, format!("{} is not one of {}", shown(value), fault::known(&known)))?;
            }
        }
        Ok(())
    }

    fn text(&mut self, node: &Node, text: &str, value: &Value, faults: &mut Vec<Found>) -> Checked {
        if let [Bounds { min: None, max: None }, ..] = node.lengths
            && node.pattern.is_none()
        {
            return Ok(());
        }
        self.spend(text.len().div_ceil(if node.pattern.is_some() {
            MATCHED_BYTES_PER_UNIT
        } else {
            BYTES_PER_UNIT
        }) as u64)?;
        self.length(node, 0, text.chars().count(), "characters", value, faults)?;
        match &node.pattern {
            Some(pattern) if !pattern.is_match(text) => {
                self.fault(node, faults, format!("{} does not match {:?}", shown(value), pattern.as_str()))
            }
            _ => Ok(()),
        }
    }

    fn number(&mut self, node: &Node, number: &Number, value: &Value, faults: &mut Vec<Found>) -> Checked {
        for (bound, fits, words) in [
            (&node.minimum, &[Ordering::Greater, Ordering::Equal][..], "less than the minimum of"),
            (&node.maximum, &[Ordering::Less, Ordering::Equal], "more than the maximum of"),
            (&node.above, &[Ordering::Greater], "not more than"),
            (&node.below, &[Ordering::Less], "not less than"),
        ] {
            if let Some(bound) = bound
                && !compared(number, bound).is_some_and(|found| fits.contains(&found))
            {
                self.fault(node, faults, format!("{} is {words} {bound}", shown(value)))?;
            }
        }
        Ok(())
    }

    fn array(&mut self, node: &Node, items: &'a [Value], value: &Value, faults: &mut Vec<Found>) -> Checked {
        self.length(node, 1, items.len(), "entries", value, faults)?;
        if node.unique {
            let mut seen = BTreeSet::new();
            for item in items {
                let text = item.to_string();
                self.spend(text.len().div_ceil(BYTES_PER_UNIT) as u64)?;
                if !seen.insert(text) {
                    self.fault(node, faults, format!("{} is in it twice", shown(item)))?;
                    break;
                }
            }
        }
        for (index, item) in items.iter().enumerate() {
            let Some(place) = node.prefix.get(index).copied().or(node.items) else { break };
            self.path.push(Step::Index(index));
            self.value(place, item, faults)?;
            self.path.pop();
        }
        Ok(())
    }

    fn object(
        &mut self,
        node: &'a Node,
        fields: &'a Map<String, Value>,
        value: &Value,
        faults: &mut Vec<Found>,
    ) -> Checked {
        self.length(node, 2, fields.len(), "fields", value, faults)?;
        self.spend(node.required.len() as u64)?;
        for name in node.required.iter().filter(|name| !fields.contains_key(*name)) {
            self.path.push(Step::Name(name));
            let described =
                node.properties.get(name).and_then(|place| self.nodes.get(*place)).unwrap_or(node);
            self.fault(described, faults, "is missing".to_owned())?;
            self.path.pop();
        }
        for (name, field) in fields {
            let known = node.properties.get(name).copied();
            let Some(place) = known.or(node.additional) else { continue };
            self.path.push(Step::Name(name));
            if known.is_none() && self.nodes.get(place).is_some_and(|other| other.never) {
                let names: Vec<_> = node.properties.keys().cloned().collect();
                let words = match names.is_empty() {
                    true => "is not known here, where nothing belongs".to_owned(),
                    false => format!("is not known here; known are {}", fault::known(&names)),
                };
                self.fault(node, faults, words)?;
            } else {
                self.value(place, field, faults)?;
            }
            self.path.pop();
        }
        Ok(())
    }

    /// Schemas that apply to the same value.
    fn applied(&mut self, node: &Node, value: &'a Value, faults: &mut Vec<Found>) -> Checked {
        for place in node.reference.iter().chain(&node.all) {
            self.value(*place, value, faults)?;
        }
        if let Some(place) = node.not
            && self.form(place, value)?.is_empty()
        {
            self.fault(node, faults, format!("{} is what it may not be", shown(value)))?;
        }
        for (forms, at_most) in [(&node.any, usize::MAX), (&node.one, 1)] {
            let Some(forms) = forms else { continue };
            let mut failed = Vec::new();
            let mut fitting = 0;
            for place in forms {
                match self.form(*place, value)? {
                    found if found.is_empty() => fitting += 1,
                    found => failed.push(found),
                }
                if fitting > 0 && at_most > 1 {
                    break;
                }
            }
            match fitting {
                0 => match fault::meant(&mut failed, self.path.len()) {
                    Some(meant) => faults.extend(meant),
                    None => {
                        self.spend(FAULT_UNITS.saturating_mul(forms.len() as u64))?;
                        let forms = outline::forms(self.nodes, forms);
                        let words =
                            format!("{} has none of the forms that it may have: {forms}", shown(value));
                        self.fault(node, faults, words)?;
                    }
                },
                found if found > at_most => {
                    self.fault(
                        node,
                        faults,
                        format!("{} has several forms of which it may have one", shown(value)),
                    )?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The faults of `value` in one form.
    fn form(&mut self, place: usize, value: &'a Value) -> Result<Vec<Found>, &'static str> {
        let mut faults = Vec::new();
        self.value(place, value, &mut faults)?;
        Ok(faults)
    }

    fn length(
        &mut self,
        node: &Node,
        which: usize,
        length: usize,
        unit: &str,
        value: &Value,
        faults: &mut Vec<Found>,
    ) -> Checked {
        let bounds = node.lengths.get(which).copied().unwrap_or_default();
        let length = length as u64;
        match bounds {
            Bounds { min: Some(min), .. } if length < min => self.fault(
                node,
                faults,
                format!("{} has {length} {unit}, less than the minimum of {min}", shown(value)),
            ),
            Bounds { max: Some(max), .. } if length > max => self.fault(
                node,
                faults,
                format!("{} has {length} {unit}, more than the maximum of {max}", shown(value)),
            ),
            _ => Ok(()),
        }
    }

    fn fault(&mut self, node: &Node, faults: &mut Vec<Found>, words: String) -> Checked {
        self.spend(FAULT_UNITS)?;
        if faults.len() < FAULTS_KEPT {
            let fault = fault::with_description(words, node.description.as_deref());
            let fault = FieldFault { path: fault::path(&self.path), fault };
            faults.push(Found { fault, depth: self.path.len(), other_form: false });
        }
        Ok(())
    }
}

/// The last fault says that another form of the value was meant.
fn mark(faults: &mut [Found]) {
    if let Some(last) = faults.last_mut() {
        last.other_form = true;
    }
}

/// Equal as JSON: `1` is `1.0`.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => compared(one, other) == Some(Ordering::Equal),
        _ => one == other,
    }
}

fn compared(one: &Number, other: &Number) -> Option<Ordering> {
    match (one.as_i128(), other.as_i128()) {
        (Some(one), Some(other)) => Some(one.cmp(&other)),
        _ => one.as_f64()?.partial_cmp(&other.as_f64()?),
    }
}
