//! `#[derive(ModuleConfig)]`: serde's own derive on a shadow of the type, which refuses unknown fields.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Fields};

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
    let shadow = shadow(input);
    Ok(quote! {
        const _: () = {
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

            impl ::millstream_sdk::ModuleConfig for #name {
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

/// The type again under another name, with no attributes but serde's.
fn shadow(input: &DeriveInput) -> DeriveInput {
    let mut shadow = input.clone();
    shadow.ident = syn::Ident::new("Shadow", input.ident.span());
    shadow.vis = syn::Visibility::Inherited;
    let only_serde = |attrs: &mut Vec<syn::Attribute>| attrs.retain(|attr| attr.path().is_ident("serde"));
    only_serde(&mut shadow.attrs);
    let fields = |fields: &mut Fields| fields.iter_mut().for_each(|field| only_serde(&mut field.attrs));
    match &mut shadow.data {
        Data::Struct(data) => fields(&mut data.fields),
        Data::Enum(data) => {
            for variant in &mut data.variants {
                only_serde(&mut variant.attrs);
                fields(&mut variant.fields);
            }
        }
        Data::Union(_) => {}
    }
    shadow
}
