//! A module's manifest and the schema of its configuration, for people: one row a field.

use serde_json::Value;

use crate::{failure::Failure, output};

/// Fields of fields are told so deep.
const DEPTH_MAX: usize = 3;

/// One field of a configuration.
#[derive(Debug, PartialEq, Eq)]
struct Field {
    path: String,
    kind: String,
    required: bool,
    default: String,
    description: String,
}

/// Prints what the module says of itself.
pub(crate) fn print(manifest: &Value) -> Result<(), Failure> {
    let Some(manifest) = manifest.as_object() else {
        return output::line("manifest      none: it does not say what it is");
    };
    let list = |name: &str| {
        let entries = manifest.get(name).and_then(Value::as_array);
        let entries = entries.into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>();
        if entries.is_empty() { "-".to_owned() } else { entries.join(", ") }
    };
    let one = |name: &str| match manifest.get(name) {
        Some(Value::String(text)) if !text.is_empty() => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => "-".to_owned(),
    };
    for (name, value) in [
        ("describes as", format!("{}@{}", one("name"), one("version"))),
        ("description", one("description")),
        ("kind", one("kind")),
        ("reads", list("reads")),
        ("contract", one("contract")),
        ("SDK", one("sdk")),
    ] {
        output::line(format!("{name:<14}{value}"))?;
    }
    match manifest.get("config_schema") {
        None => output::line("config        not described"),
        Some(schema) => print_schema(schema),
    }
}

fn print_schema(schema: &Value) -> Result<(), Failure> {
    let root = resolved(schema, schema);
    let fields = fields(schema);
    if fields.is_empty() {
        let closed = root.get("additionalProperties") == Some(&Value::Bool(false));
        return output::line(if closed {
            "config        none".to_owned()
        } else {
            format!("config        {}", kind(schema))
        });
    }
    if let Some(description) = [schema, root].into_iter().find_map(description) {
        output::line(format!("config        {description}"))?;
    }
    let rows = fields.into_iter().map(|field| {
        let required = if field.required { "yes" } else { "" };
        [field.path, field.kind, required.to_owned(), field.default, field.description]
    });
    let table = output::table(["CONFIG FIELD", "TYPE", "REQUIRED", "DEFAULT", "DESCRIPTION"], rows);
    output::line(format!("\n{table}"))
}

/// The fields of a configuration with this schema, those of inner objects behind their own.
fn fields(schema: &Value) -> Vec<Field> {
    let mut rows = Vec::new();
    collect(schema, schema, "", 0, &mut rows);
    rows
}

fn collect(root: &Value, schema: &Value, prefix: &str, depth: usize, rows: &mut Vec<Field>) {
    let schema = resolved(root, schema);
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    let required: Vec<&str> = match schema.get("required").and_then(Value::as_array) {
        Some(names) => names.iter().filter_map(Value::as_str).collect(),
        None => Vec::new(),
    };
    for (name, property) in properties {
        let path = format!("{prefix}{name}");
        let described = [property, resolved(root, property)].into_iter().find_map(description);
        rows.push(Field {
            kind: kind(property),
            required: required.contains(&name.as_str()),
            // That it may be left out is said beside it.
            default: property
                .get("default")
                .filter(|json| !json.is_null())
                .map(Value::to_string)
                .unwrap_or_default(),
            description: described.unwrap_or_default(),
            path: path.clone(),
        });
        // What refers to a definition may contain itself.
        if depth < DEPTH_MAX && property.get("$ref").is_none() {
            let (inner, way) = within(without_null(property));
            collect(root, inner, &format!("{path}{way}."), depth + 1, rows);
        }
    }
}

/// What the entries of a list or of a table look like, and the way there; any other schema is its own.
fn within(schema: &Value) -> (&Value, &'static str) {
    let entries = |keyword: &str| schema.get(keyword).filter(|inner| inner.get("properties").is_some());
    match (entries("items"), entries("additionalProperties")) {
        (Some(items), _) => (items, "[]"),
        (None, Some(values)) => (values, ".NAME"),
        (None, None) => (schema, ""),
    }
}

fn description(schema: &Value) -> Option<String> {
    let text = schema.get("description")?.as_str()?;
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// What `schema` refers to, if it does nothing else.
fn resolved<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let target =
        schema.get("$ref").and_then(Value::as_str).and_then(|text| root.pointer(text.strip_prefix('#')?));
    match target {
        Some(target) if schema.get("properties").is_none() => target,
        _ => schema,
    }
}

/// Of a schema for something or null, that for something.
fn without_null(schema: &Value) -> &Value {
    match forms(schema).as_slice() {
        [only] => only,
        _ => schema,
    }
}

fn forms(schema: &Value) -> Vec<&Value> {
    let forms = ["anyOf", "oneOf"].into_iter().find_map(|keyword| schema.get(keyword)?.as_array());
    let is_null = |form: &&Value| form.get("type").and_then(Value::as_str) == Some("null");
    forms.into_iter().flatten().filter(|form| !is_null(form)).collect()
}

/// What a value may be, in a few words.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        return name.rsplit('/').next().filter(|name| *name != "#").unwrap_or("config").to_owned();
    }
    if let Some(value) = schema.get("const") {
        return value.to_string();
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return values.iter().map(Value::to_string).collect::<Vec<_>>().join(" or ");
    }
    let forms = forms(schema);
    if !forms.is_empty() {
        let mut kinds: Vec<_> = match forms.as_slice() {
            [only] => vec![kind(only)],
            several => several.iter().map(|form| written(form)).collect(),
        };
        kinds.dedup();
        return kinds.join(" or ");
    }
    match schema.get("type") {
        Some(Value::String(name)) => named(name, schema),
        Some(Value::Array(names)) => {
            let names = names.iter().filter_map(Value::as_str).filter(|name| *name != "null");
            names.map(|name| named(name, schema)).collect::<Vec<_>>().join(" or ")
        }
        _ if schema.get("properties").is_some() => "object".to_owned(),
        _ => "any".to_owned(),
    }
}

/// One form of several: an object by the fields that it has, which tell it from the others.
fn written(form: &Value) -> String {
    let Some(properties) = form.get("properties").and_then(Value::as_object) else { return kind(form) };
    let fields: Vec<_> =
        properties.iter().map(|(name, property)| format!("{name:?}: {}", kind(property))).collect();
    format!("{{{}}}", fields.join(", "))
}

fn named(name: &str, schema: &Value) -> String {
    let inner = |keyword: &str| schema.get(keyword).filter(|inner| inner.is_object()).map(kind);
    match name {
        "array" => match inner("items") {
            Some(item) => format!("list of {item}"),
            None => "list".to_owned(),
        },
        "object" => match inner("additionalProperties") {
            Some(value) => format!("object of {value}"),
            None => "object".to_owned(),
        },
        "integer" | "number" => match (schema.get("minimum"), schema.get("maximum")) {
            (Some(min), Some(max)) => format!("{name} {min} to {max}"),
            (Some(min), None) => format!("{name} from {min}"),
            (None, Some(max)) => format!("{name} to {max}"),
            (None, None) => name.to_owned(),
        },
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn kinds_in_words() {
        for (schema, words) in [
            (json!({}), "any"),
            (json!({"type": "string"}), "string"),
            (json!({"type": "integer", "minimum": 0}), "integer from 0"),
            (json!({"type": "integer", "minimum": 0, "maximum": 255}), "integer 0 to 255"),
            (json!({"anyOf": [{"type": "boolean"}, {"type": "null"}]}), "boolean"),
            (json!({"type": "array", "items": {"$ref": "#/$defs/condition"}}), "list of condition"),
            (json!({"type": "object", "additionalProperties": {"type": "number"}}), "object of number"),
            (json!({"enum": ["a", 1]}), "\"a\" or 1"),
            (json!({"anyOf": [{"const": "x"}, {"type": "array"}]}), "\"x\" or list"),
            (json!({"type": ["string", "null", "number"]}), "string or number"),
            (
                json!({"anyOf": [{"enum": ["a", "b"]}, {"type": "object", "properties": {"h": {"type": "string"}}}]}),
                r#""a" or "b" or {"h": string}"#,
            ),
        ] {
            assert_eq!(kind(&schema), words);
        }
    }

    #[test]
    fn fields_of_inner_objects_come_behind_their_own() {
        let schema = json!({
            "$ref": "#/$defs/c",
            "$defs": {"c": {
                "required": ["b"],
                "properties": {
                    "a": {"anyOf": [{"type": "object", "properties": {"x": {"type": "string", "default": "y"}}}, {"type": "null"}]},
                    "b": {"$ref": "#/$defs/c", "description": "again"},
                    "steps": {"type": "array", "items": {"type": "object", "properties": {"to": {"default": null}}}},
                    "table": {"type": "object", "additionalProperties": {"type": "object", "properties": {"to": {}}}},
                },
            }},
        });
        let paths: Vec<_> =
            fields(&schema).into_iter().map(|field| (field.path, field.required, field.default)).collect();
        let wanted = [
            ("a", false, ""),
            ("a.x", false, "\"y\""),
            ("b", true, ""),
            ("steps", false, ""),
            ("steps[].to", false, ""),
            ("table", false, ""),
            ("table.NAME.to", false, ""),
        ];
        assert_eq!(
            paths,
            wanted.map(|(path, required, default)| (path.to_owned(), required, default.to_owned()))
        );
    }
}
