//! Our own attributes of a configuration's fields: `#[config(default = 60)]`, `#[config(any)]`.

use std::collections::HashMap;

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Data, DeriveInput, Expr, Field, Fields, Lit, Member, UnOp};

use crate::json::quoted;

/// What our attributes say, by field of a struct.
#[derive(Default)]
pub(crate) struct Options(HashMap<String, Said>);

#[derive(Default)]
struct Said {
    any: bool,
    default: Option<Expr>,
    default_json: Option<String>,
}

impl Options {
    /// Reads the attributes of `input`'s fields.
    pub(crate) fn of(input: &DeriveInput) -> syn::Result<Self> {
        let mut options = HashMap::new();
        match &input.data {
            Data::Struct(data) => {
                for (member, field) in data.fields.members().zip(&data.fields) {
                    options.insert(name(&member), said(field)?);
                }
            }
            Data::Enum(data) => {
                let fields = data.variants.iter().flat_map(|variant| &variant.fields);
                for field in fields {
                    if let Some(attr) = field.attrs.iter().find(|attr| attr.path().is_ident("config")) {
                        return Err(syn::Error::new_spanned(
                            attr,
                            "#[config(...)] stands on the fields of a struct: give the variant one",
                        ));
                    }
                }
            }
            Data::Union(_) => {}
        }
        Ok(Self(options))
    }

    /// Whether nothing is to be said of the field's values.
    pub(crate) fn is_any(&self, member: &Member) -> bool {
        self.0.get(&name(member)).is_some_and(|said| said.any)
    }

    /// The field's default, as JSON.
    pub(crate) fn default_json(&self, member: &Member) -> Option<&str> {
        self.0.get(&name(member))?.default_json.as_deref()
    }

    /// Gives each field that has a default here a `#[serde(default = "...")]`; the functions that those name.
    pub(crate) fn apply(&self, fields: &mut Fields) -> TokenStream {
        let members: Vec<_> = fields.members().collect();
        let mut functions = TokenStream::new();
        for (member, field) in members.iter().zip(fields.iter_mut()) {
            let Some(default) = self.0.get(&name(member)).and_then(|said| said.default.as_ref()) else {
                continue;
            };
            let function = format_ident!("default_{}", name(member));
            let (path, ty) = (function.to_string(), &field.ty);
            let value = match default {
                Expr::Lit(lit) if matches!(lit.lit, Lit::Str(_)) => {
                    quote!(::core::convert::Into::into(#default))
                }
                other => quote!(#other),
            };
            functions.extend(quote!(fn #function() -> #ty { #value }));
            field.attrs.push(syn::parse_quote!(#[serde(default = #path)]));
        }
        functions
    }
}

fn name(member: &Member) -> String {
    match member {
        Member::Named(name) => name.to_string().trim_start_matches("r#").to_owned(),
        Member::Unnamed(index) => index.index.to_string(),
    }
}

fn said(field: &Field) -> syn::Result<Said> {
    let mut said = Said::default();
    for attr in field.attrs.iter().filter(|attr| attr.path().is_ident("config")) {
        attr.parse_nested_meta(|meta| {
            if meta.path.is_ident("any") {
                said.any = true;
                return Ok(());
            }
            if meta.path.is_ident("default") {
                let default: Expr = meta.value()?.parse()?;
                said.default_json = Some(json(&default).ok_or_else(|| {
                    syn::Error::new_spanned(
                        &default,
                        "a default is a number, a text or a bool as it is written in JSON; for others there is \
                         #[serde(default = \"function\")]",
                    )
                })?);
                said.default = Some(default);
                return Ok(());
            }
            Err(meta.error("it is #[config(default = 60)] or #[config(any)]"))
        })?;
    }
    Ok(said)
}

/// A literal as JSON.
fn json(literal: &Expr) -> Option<String> {
    match literal {
        Expr::Unary(unary) if matches!(unary.op, UnOp::Neg(_)) => {
            let number = json(&unary.expr)?;
            number.starts_with(|char: char| char.is_ascii_digit()).then(|| format!("-{number}"))
        }
        Expr::Lit(lit) => match &lit.lit {
            Lit::Str(text) => Some(quoted(&text.value())),
            Lit::Bool(value) => Some(value.value.to_string()),
            Lit::Int(number) => Some(number.base10_digits().to_owned()),
            // As in `1.`, which JSON does not have.
            Lit::Float(number) => Some(number.base10_digits().trim_end_matches('.').to_owned()),
            _ => None,
        },
        _ => None,
    }
}
