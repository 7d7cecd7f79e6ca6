//! What a value may look like, in as few words as tell its forms apart: `"drop"`, `{"header": string}`.

use super::fault::shown;
use super::node::{Bounds, Node, Type};

/// Forms told, and fields and inner forms of each.
const FORMS_MAX: usize = 20;
const PARTS_MAX: usize = 6;
/// References and inner forms followed.
const DEPTH_MAX: usize = 3;

/// The forms that `places` stand for.
pub(crate) fn forms(nodes: &[Node], places: &[usize]) -> String {
    let mut forms: Vec<String> =
        places.iter().take(FORMS_MAX).map(|place| outline(nodes, *place, 0)).collect();
    forms.dedup();
    match (forms.pop(), places.len() > FORMS_MAX) {
        (Some(last), false) if !forms.is_empty() => format!("{} or {last}", forms.join(", ")),
        (Some(last), false) => last,
        (Some(last), true) => format!("{}, {last}, ...", forms.join(", ")),
        (None, _) => "none".to_owned(),
    }
}

fn outline(nodes: &[Node], place: usize, depth: usize) -> String {
    let Some(node) = nodes.get(place).filter(|_| depth <= DEPTH_MAX) else { return "...".to_owned() };
    let several = |parts: Vec<String>, all: usize| match all > PARTS_MAX {
        true => format!("{}, ...", parts.join(", ")),
        false => parts.join(", "),
    };
    if let Some(constant) = &node.constant {
        return shown(constant);
    }
    if let Some(options) = &node.options {
        return several(options.iter().take(PARTS_MAX).map(shown).collect(), options.len());
    }
    if let Some(inner) = node.reference.or_else(|| node.all.first().copied()) {
        return outline(nodes, inner, depth + 1);
    }
    if let Some(inner) = node.any.as_ref().or(node.one.as_ref()) {
        let parts = inner.iter().take(PARTS_MAX).map(|place| outline(nodes, *place, depth + 1)).collect();
        return several(parts, inner.len());
    }
    let types = node.types.as_deref().unwrap_or_default();
    if !node.properties.is_empty() && (types.is_empty() || types == [Type::Object]) {
        return object(nodes, node, depth);
    }
    match types {
        [] => "any value".to_owned(),
        types => types.iter().map(|one| one.name()).collect::<Vec<_>>().join(" or "),
    }
}

/// The fields that it must have; of one that may have a single field of several, each alone.
fn object(nodes: &[Node], node: &Node, depth: usize) -> String {
    let field = |name: &str, place: usize| format!("{name:?}: {}", outline(nodes, place, depth + 1));
    if let [.., Bounds { min: Some(1), max: Some(1) }] = node.lengths {
        let alone = node.properties.iter().take(PARTS_MAX);
        return alone
            .map(|(name, place)| format!("{{{}}}", field(name, *place)))
            .collect::<Vec<_>>()
            .join(", ");
    }
    let required = node.required.iter().filter_map(|name| Some((name, *node.properties.get(name)?)));
    let mut fields: Vec<_> = required.take(PARTS_MAX).map(|(name, place)| field(name, place)).collect();
    if node.properties.len() > fields.len() {
        fields.push("...".to_owned());
    }
    format!("{{{}}}", fields.join(", "))
}
