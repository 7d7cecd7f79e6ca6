//! `#[derive(ModuleConfig)]`: serde's own derive on a shadow of the type, which refuses unknown fields; and the schema.

use proc_macro2::TokenStream;
use quote::quote;
use syn::punctuated::Punctuated;
use syn::{Data, DeriveInput, Fields, Token};

use crate::field::Options;
use crate::schema::{Schema, schema};

/// The implementations for the type.
pub(crate) fn expand(item: TokenStream) -> TokenStream {
    syn::parse2(item).and_then(|input| config(&input)).unwrap_or_else(|error| error.into_compile_error())
}

fn config(input: &DeriveInput) -> syn::Result<TokenStream> {
    if let Some(param) = input.generics.params.first() {
        return Err(syn::Error::new_spanned(
            param,
            "a module's configuration is a concrete type, without parameters",
        ));
    }
    match &input.data {
        Data::Union(_) => {
            return Err(syn::Error::new_spanned(
                &input.ident,
                "a module's configuration is a struct or an enum",
            ));
        }
        Data::Struct(data) if !matches!(data.fields, Fields::Named(_)) => {
            return Err(syn::Error::new_spanned(
                &input.ident,
                "a module's configuration has named fields: they are the fields of its JSON",
            ));
        }
        _ => {}
    }
    let name = &input.ident;
    let remote = name.to_string();
    let options = Options::of(input)?;
    let (shadow, defaults) = shadow(input, &options);
    let Schema { implementation, whole } = schema(&described(input, &shadow), &options)?;
    Ok(quote! {
        const _: () = {
            #[allow(unused_imports, reason = "not every type asks for all of them")]
            use ::millstream_sdk::__private::{ConfigSchema, Probe, SchemaFields, SchemaText, Unknown as _};

            #defaults

            #[derive(::millstream_sdk::serde::Deserialize)]
            #[serde(crate = "::millstream_sdk::serde", remote = #remote, deny_unknown_fields)]
            #shadow

            impl<'de> ::millstream_sdk::serde::Deserialize<'de> for #name {
                fn deserialize<D: ::millstream_sdk::serde::Deserializer<'de>>(
                    deserializer: D,
                ) -> ::core::result::Result<Self, D::Error> {
                    Shadow::deserialize(deserializer)
                }
            }

            #implementation

            impl ::millstream_sdk::ModuleConfig for #name {
                const SCHEMA: SchemaText = #whole;

                fn from_json(json: &str) -> ::core::result::Result<Self, ::std::string::String> {
                    #[allow(unused_imports, reason = "the type may have its own `validate`")]
                    use ::millstream_sdk::__private::NoValidate as _;
                    let config: Self = ::millstream_sdk::parse_config(json)?;
                    config.validate().map_err(|why| ::std::format!("config: {why}"))?;
                    ::core::result::Result::Ok(config)
                }
            }
        };
    })
}

/// The type as the schema is read from it: with its doc comments, and the defaults that serde is told of.
fn described(input: &DeriveInput, shadow: &DeriveInput) -> DeriveInput {
    let mut described = input.clone();
    if let (Data::Struct(to), Data::Struct(from)) = (&mut described.data, &shadow.data) {
        for (to, from) in to.fields.iter_mut().zip(&from.fields) {
            let docs = to.attrs.iter().filter(|attr| attr.path().is_ident("doc")).cloned();
            to.attrs = docs.chain(from.attrs.iter().cloned()).collect();
        }
    }
    described
}

/// The type again under another name, with no attributes but serde's.
fn shadow(input: &DeriveInput, options: &Options) -> (DeriveInput, TokenStream) {
    let mut shadow = input.clone();
    shadow.ident = syn::Ident::new("Shadow", input.ident.span());
    shadow.vis = syn::Visibility::Inherited;
    let only_serde = |attrs: &mut Vec<syn::Attribute>| attrs.retain(|attr| attr.path().is_ident("serde"));
    only_serde(&mut shadow.attrs);
    let fields = |fields: &mut Fields| fields.iter_mut().for_each(|field| only_serde(&mut field.attrs));
    let mut defaults = whole_default(&mut shadow.attrs, &input.ident);
    match &mut shadow.data {
        Data::Struct(data) => {
            fields(&mut data.fields);
            defaults.extend(options.apply(&mut data.fields));
        }
        Data::Enum(data) => {
            for variant in &mut data.variants {
                only_serde(&mut variant.attrs);
                fields(&mut variant.fields);
            }
        }
        Data::Union(_) => {}
    }
    (shadow, defaults)
}

/// Turns a `#[serde(default)]` on the type into one that names a function: serde would ask the shadow for its default.
fn whole_default(attrs: &mut Vec<syn::Attribute>, name: &syn::Ident) -> TokenStream {
    let mut found = false;
    for attr in attrs.iter_mut() {
        let Ok(metas) = attr.parse_args_with(Punctuated::<syn::Meta, Token![,]>::parse_terminated) else {
            continue;
        };
        let is_default = |meta: &syn::Meta| matches!(meta, syn::Meta::Path(path) if path.is_ident("default"));
        if metas.iter().any(is_default) {
            found = true;
            let others = metas.iter().filter(|meta| !is_default(meta));
            *attr = syn::parse_quote!(#[serde(#(#others),*)]);
        }
    }
    if !found {
        return TokenStream::new();
    }
    attrs.push(syn::parse_quote!(#[serde(default = "default_of_all")]));
    quote!(fn default_of_all() -> #name { ::core::default::Default::default() })
}
