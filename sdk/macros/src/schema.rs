//! The schema of a configuration, from the type and its serde attributes, which serde's own parser reads.
//!
//! What it says of a type is a `SchemaText` of the SDK: pieces known here, with the types of fields asked by the compiler.

mod variants;

use proc_macro2::TokenStream;
use quote::quote;
use serde_derive_internals::ast::{Container, Data, Field, Style};
use serde_derive_internals::{Ctxt, Derive, attr};
use syn::DeriveInput;

use crate::field::Options;
use crate::json::{description, quoted};

/// The implementation of `ConfigSchema`, and the schema as a whole.
pub(crate) struct Schema {
    pub(crate) implementation: TokenStream,
    /// The value of `ModuleConfig::SCHEMA`.
    pub(crate) whole: TokenStream,
}

/// Reads `input`, of which `options` are our own attributes, by field.
pub(crate) fn schema(input: &DeriveInput, options: &Options) -> syn::Result<Schema> {
    let cx = Ctxt::new();
    let private = syn::Ident::new("__private", proc_macro2::Span::call_site());
    let container = Container::from_ast(&cx, input, Derive::Deserialize, &private);
    cx.check()?;
    let Some(container) = container else {
        return Err(syn::Error::new_spanned(input, "serde cannot read this type"));
    };
    let writer = Writer { own: &input.ident, options };
    let object = writer.container(&container);
    let name = &input.ident;
    let members = &object.members;
    let fields = match &object.fields {
        Some(Fields { properties, required, .. }) => quote! {
            ::core::option::Option::Some(SchemaFields { properties: #properties, required: #required })
        },
        None => quote!(::core::option::Option::None),
    };
    let default = variants::default(&container).unwrap_or_default();
    let implementation = quote! {
        impl ConfigSchema for #name {
            const MEMBERS: SchemaText = #members;
            const DEFAULT: &'static str = #default;
            const FIELDS: ::core::option::Option<SchemaFields> = #fields;
        }
    };
    let described = text(&description(&input.attrs).map(described).unwrap_or_default());
    let whole = quote! {
        SchemaText::Parts(&[
            SchemaText::Text("{"),
            SchemaText::Joined(&[#described, <#name as ConfigSchema>::MEMBERS]),
            SchemaText::Text("}"),
        ])
    };
    Ok(Schema { implementation, whole })
}

/// What is known of one type's values.
struct Object {
    /// The members of its schema.
    members: TokenStream,
    fields: Option<Fields>,
}

/// The named fields of an object.
struct Fields {
    /// The members of `properties`.
    properties: TokenStream,
    /// The entries of `required`.
    required: TokenStream,
    /// Whether others are refused: not where a flattened field may take them.
    closed: TokenStream,
}

struct Writer<'a> {
    own: &'a syn::Ident,
    options: &'a Options,
}

impl Writer<'_> {
    fn container(&self, container: &Container<'_>) -> Object {
        let attrs = &container.attrs;
        if attrs.type_from().is_some() || attrs.type_try_from().is_some() {
            return Object { members: text(""), fields: None };
        }
        match &container.data {
            Data::Struct(_, fields) if attrs.transparent() => {
                let inner = fields.iter().find(|field| field.attrs.transparent());
                Object { members: inner.map_or_else(|| text(""), |field| self.of_type(field)), fields: None }
            }
            Data::Struct(_, fields) => {
                let fields = self.fields(fields, !attrs.default().is_none(), None);
                Object { members: object(&fields), fields: Some(fields) }
            }
            Data::Enum(variants) => Object { members: self.variants(attrs.tag(), variants), fields: None },
        }
    }

    /// The fields of a struct or of a variant with named fields; `tag` is a member that comes first.
    fn fields(&self, fields: &[Field<'_>], all_default: bool, tag: Option<(&str, String)>) -> Fields {
        let (mut properties, mut required, mut closed) = (Vec::new(), Vec::new(), Vec::new());
        if let Some((name, schema)) = tag {
            properties.push(text(&format!("{}:{schema}", quoted(name))));
            required.push(text(&quoted(name)));
        }
        for field in fields.iter().filter(|field| !field.attrs.skip_deserializing()) {
            if field.attrs.flatten() {
                let (inner, ty) = (self.known(field), field.ty);
                let part = |part: TokenStream| match inner {
                    true => quote!(match Probe::<#ty>::FIELDS {
                        ::core::option::Option::Some(fields) => fields.#part,
                        ::core::option::Option::None => SchemaText::EMPTY,
                    }),
                    false => text(""),
                };
                properties.push(part(quote!(properties)));
                required.push(part(quote!(required)));
                closed.push(if inner { quote!(Probe::<#ty>::FIELDS.is_some()) } else { quote!(false) });
                continue;
            }
            let name = &field.attrs.name().deserialize_name().value;
            let others: Vec<_> = field.attrs.aliases().iter().filter(|other| other.value != *name).collect();
            properties.push(self.property(name, field, all_default));
            for other in &others {
                let same = format!(
                    "{}:{{\"description\":{}}}",
                    quoted(&other.value),
                    quoted(&format!("The same as {name}."))
                );
                properties.push(text(&same));
            }
            let must = all_default || !field.attrs.default().is_none() || !others.is_empty();
            if !must {
                let (ty, name) = (field.ty, text(&quoted(name)));
                required.push(match self.known(field) {
                    true => quote!(#name.only_if(!Probe::<#ty>::OPTIONAL)),
                    // Read by a function of the author's: serde then asks for the field, whatever its type.
                    false => name,
                });
            }
        }
        Fields {
            properties: joined(&properties),
            required: joined(&required),
            closed: quote!(true #(&& #closed)*),
        }
    }

    /// `"name":{...}`.
    fn property(&self, name: &str, field: &Field<'_>, all_default: bool) -> TokenStream {
        let (ty, schema) = (field.ty, self.of_type(field));
        let described = text(&description(&field.original.attrs).map(described).unwrap_or_default());
        let default = match (self.options.default_json(&field.member), field.attrs.default()) {
            (Some(json), _) => text(&format!("\"default\":{json}")),
            (None, attr::Default::Default) if self.known(field) && !all_default => quote! {
                SchemaText::Parts(&[SchemaText::Text("\"default\":"), SchemaText::Text(Probe::<#ty>::DEFAULT)])
                    .only_if(!Probe::<#ty>::DEFAULT.is_empty())
            },
            _ => text(""),
        };
        let (before, after) = (text(&format!("{}:{{", quoted(name))), text("}"));
        let inner = joined(&[described, schema, default]);
        quote!(SchemaText::Parts(&[#before, #inner, #after]))
    }

    /// The members of the schema of a field's values.
    fn of_type(&self, field: &Field<'_>) -> TokenStream {
        let ty = field.ty;
        if self.known(field) { quote!(Probe::<#ty>::MEMBERS) } else { text("") }
    }

    /// Whether the type says what the field's values look like.
    fn known(&self, field: &Field<'_>) -> bool {
        field.attrs.deserialize_with().is_none()
            && !self.options.is_any(&field.member)
            && !mentions(field.ty, self.own)
    }

    /// The members of the schema of what a variant holds.
    fn content(&self, style: Style, fields: &[Field<'_>]) -> TokenStream {
        match (style, fields) {
            (Style::Unit, _) => text("\"type\":\"null\""),
            (Style::Newtype, [field]) => self.of_type(field),
            (Style::Struct, fields) => object(&self.fields(fields, false, None)),
            (_, fields) => {
                let items: Vec<_> = fields.iter().map(|field| braced(&self.of_type(field))).collect();
                let items = joined(&items);
                let count = fields.len();
                quote!(SchemaText::Parts(&[
                    SchemaText::Text("\"type\":\"array\",\"prefixItems\":["), #items,
                    SchemaText::Text("],\"minItems\":"), SchemaText::Number(#count),
                    SchemaText::Text(",\"maxItems\":"), SchemaText::Number(#count),
                ]))
            }
        }
    }
}

/// The members of an object's schema.
fn object(Fields { properties, required, closed }: &Fields) -> TokenStream {
    quote!(SchemaText::Joined(&[
        SchemaText::Text("\"type\":\"object\""),
        SchemaText::Parts(&[SchemaText::Text("\"properties\":{"), #properties, SchemaText::Text("}")]),
        SchemaText::Parts(&[SchemaText::Text("\"required\":["), #required, SchemaText::Text("]")]),
        SchemaText::Text("\"additionalProperties\":false").only_if(#closed),
    ]))
}

fn described(description: String) -> String {
    format!("\"description\":{}", quoted(&description))
}

fn text(text: &str) -> TokenStream {
    quote!(SchemaText::Text(#text))
}

fn joined(parts: &[TokenStream]) -> TokenStream {
    quote!(SchemaText::Joined(&[#(#parts),*]))
}

fn braced(members: &TokenStream) -> TokenStream {
    quote!(SchemaText::Parts(&[SchemaText::Text("{"), #members, SchemaText::Text("}")]))
}

/// Whether `ty` has the type `own` in it: what it looks like would have no end.
fn mentions(ty: &syn::Type, own: &syn::Ident) -> bool {
    fn within(tokens: TokenStream, own: &syn::Ident) -> bool {
        tokens.into_iter().any(|token| match token {
            proc_macro2::TokenTree::Ident(ident) => ident == *own || ident == "Self",
            proc_macro2::TokenTree::Group(group) => within(group.stream(), own),
            _ => false,
        })
    }
    within(quote!(#ty), own)
}
