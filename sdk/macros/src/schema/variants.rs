//! The forms that an enum may have, by the way serde tells them apart.

use proc_macro2::TokenStream;
use quote::quote;
use serde_derive_internals::ast::{Container, Data, Style, Variant};
use serde_derive_internals::attr::TagType;

use super::{Fields, Writer, braced, described, joined, object, text};
use crate::json::{description, quoted};

impl Writer<'_> {
    /// The members of an enum's schema.
    pub(super) fn variants(&self, tag: &TagType, variants: &[Variant<'_>]) -> TokenStream {
        let variants: Vec<_> =
            variants.iter().filter(|variant| !variant.attrs.skip_deserializing()).collect();
        let by_name = |variant: &&&Variant<'_>| {
            matches!((tag, variant.style), (TagType::External, Style::Unit)) && !variant.attrs.untagged()
        };
        // With `other` any name will do.
        let any_name = variants.iter().any(|variant| variant.attrs.other());
        let units: Vec<_> = variants.iter().filter(by_name).flat_map(|variant| names(variant)).collect();
        let units = match (any_name, units.is_empty()) {
            (true, _) => Some(text("\"type\":\"string\"")),
            (false, false) => Some(text(&format!("\"enum\":[{}]", units.join(",")))),
            (false, true) => None,
        };
        if any_name && !matches!(tag, TagType::External) {
            return text("\"type\":\"object\"");
        }
        let others = variants.iter().filter(|variant| !by_name(variant));
        let mut forms: Vec<_> = others.map(|variant| self.variant(tag, variant)).collect();
        match (units, forms.is_empty()) {
            (Some(units), true) => return units,
            (Some(units), false) => forms.insert(0, units),
            (None, _) => {}
        }
        let forms: Vec<_> = forms.iter().map(braced).collect();
        let forms = joined(&forms);
        quote!(SchemaText::Parts(&[SchemaText::Text("\"anyOf\":["), #forms, SchemaText::Text("]")]))
    }

    /// The members of the schema of one form.
    fn variant(&self, tag: &TagType, variant: &Variant<'_>) -> TokenStream {
        let known = variant.attrs.deserialize_with().is_none();
        let content = match known {
            true => self.content(variant.style, &variant.fields),
            false => text(""),
        };
        let form = match tag {
            _ if variant.attrs.untagged() => content,
            TagType::None => content,
            TagType::External => {
                let properties: Vec<_> = names(variant)
                    .iter()
                    .map(|name| {
                        let (name, content) = (text(&format!("{name}:")), braced(&content));
                        quote!(SchemaText::Parts(&[#name, #content]))
                    })
                    .collect();
                let properties = joined(&properties);
                quote!(SchemaText::Parts(&[
                    SchemaText::Text("\"type\":\"object\",\"properties\":{"), #properties,
                    SchemaText::Text("},\"minProperties\":1,\"maxProperties\":1,\"additionalProperties\":false"),
                ]))
            }
            TagType::Internal { tag } => self.internal(tag, variant, known),
            TagType::Adjacent { tag, content: name } => {
                let (tag_name, content_name) =
                    (text(&format!("{}:{}", quoted(tag), names_schema(variant))), quoted(name));
                let content_head = text(&format!("{content_name}:"));
                let content = braced(&content);
                let wanted = match variant.style {
                    Style::Unit => quoted(tag),
                    _ => format!("{},{content_name}", quoted(tag)),
                };
                object(&Fields {
                    properties: joined(&[tag_name, quote!(SchemaText::Parts(&[#content_head, #content]))]),
                    required: text(&wanted),
                    closed: quote!(true),
                })
            }
        };
        match description(&variant.original.attrs) {
            Some(line) => joined(&[text(&described(line)), form]),
            None => form,
        }
    }

    /// An object that has the variant's name in `tag`, beside what the variant holds.
    fn internal(&self, tag: &str, variant: &Variant<'_>, known: bool) -> TokenStream {
        let tag_member = Some((tag, names_schema(variant)));
        match (variant.style, variant.fields.as_slice()) {
            (Style::Struct, fields) if known => object(&self.fields(fields, false, tag_member)),
            (Style::Newtype, [field]) if known && self.known(field) => {
                let (ty, Fields { properties, required, .. }) =
                    (field.ty, self.fields(&[], false, tag_member));
                let inner = |part: TokenStream| {
                    quote!(match Probe::<#ty>::FIELDS {
                        ::core::option::Option::Some(fields) => fields.#part,
                        ::core::option::Option::None => SchemaText::EMPTY,
                    })
                };
                object(&Fields {
                    properties: joined(&[properties, inner(quote!(properties))]),
                    required: joined(&[required, inner(quote!(required))]),
                    closed: quote!(Probe::<#ty>::FIELDS.is_some()),
                })
            }
            (Style::Unit, _) => object(&self.fields(&[], false, tag_member)),
            _ => object(&Fields { closed: quote!(false), ..self.fields(&[], false, tag_member) }),
        }
    }
}

/// The variant that `#[default]` stands on, as JSON, if its name is all there is of it.
pub(super) fn default(container: &Container<'_>) -> Option<String> {
    let (Data::Enum(variants), TagType::External) = (&container.data, container.attrs.tag()) else {
        return None;
    };
    let is_default =
        |variant: &&Variant<'_>| variant.original.attrs.iter().any(|attr| attr.path().is_ident("default"));
    let variant = variants.iter().find(is_default)?;
    let by_name = matches!(variant.style, Style::Unit)
        && !variant.attrs.untagged()
        && !variant.attrs.skip_deserializing();
    by_name.then(|| quoted(&variant.attrs.name().deserialize_name().value))
}

/// The names that serde takes for `variant`, as JSON texts.
fn names(variant: &Variant<'_>) -> Vec<String> {
    let name = &variant.attrs.name().deserialize_name().value;
    let others = variant.attrs.aliases().iter().map(|other| &other.value).filter(|other| *other != name);
    std::iter::once(name).chain(others).map(|name| quoted(name)).collect()
}

/// The schema of the variant's name.
fn names_schema(variant: &Variant<'_>) -> String {
    match names(variant).as_slice() {
        [name] => format!("{{\"const\":{name}}}"),
        names => format!("{{\"enum\":[{}]}}", names.join(",")),
    }
}
