//! The grammar of conditions as pieces of a JSON Schema: members of `properties`, for the modules' manifests. How the
//! members go together is left to [`Predicate::parse`](crate::Predicate::parse), which says it in better words.

/// A header, alone or combined: each condition within is `#/$defs/condition`.
pub const HEADER_CONDITION: &str = r##"
    "header": {"type": "string", "minLength": 1, "description": "Name of a header; operators stand beside it"},
    "all": {"type": "array", "items": {"$ref": "#/$defs/condition"}, "description": "Conditions that must all be met"},
    "any": {"type": "array", "items": {"$ref": "#/$defs/condition"}, "description": "Conditions of which one must be met"},
    "not": {"$ref": "#/$defs/condition", "description": "A condition that must not be met"}"##;

/// A field of a JSON payload.
pub const POINTER: &str = r#"
    "pointer": {"type": "string", "description": "JSON Pointer to a field, as in /carrier; operators stand beside it"}"#;

/// The operators beside `header` and `pointer`.
pub const OPERATORS: &str = r#"
    "equals": {"type": ["string", "number", "boolean"],
        "description": "A text, number or bool; for what is missing or null there is \"exists\": false"},
    "not_equals": {"type": ["string", "number", "boolean"],
        "description": "A text, number or bool; for what is missing or null there is \"exists\": false"},
    "in": {"type": "array", "items": {"type": ["string", "number", "boolean"]}, "description": "A list of texts, numbers, bools"},
    "prefix": {"type": "string", "description": "The value begins with it"},
    "suffix": {"type": "string", "description": "The value ends with it"},
    "contains": {"type": "string", "description": "The value contains it"},
    "exists": {"type": "boolean", "description": "true: it is there and not null; false: it is missing or null"},
    "gt": {"type": "number", "description": "A number, written without quotes"},
    "gte": {"type": "number", "description": "A number, written without quotes"},
    "lt": {"type": "number", "description": "A number, written without quotes"},
    "lte": {"type": "number", "description": "A number, written without quotes"}"#;

/// A list of fields, as [`list_of_fields`](crate::list_of_fields) reads it; without the braces.
pub const LIST_OF_FIELDS: &str = r#""type": "array", "minItems": 1, "items": {"type": "string"}"#;
