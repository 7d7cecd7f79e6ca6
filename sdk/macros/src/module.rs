//! From a function to a module: the trait's implementation, the guest's exports, the manifest.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::ItemFn;
use syn::spanned::Spanned;

use crate::args::{Args, Reads, Topics};
use crate::json::quoted;
use crate::kind::Kind;
use crate::signature::Signature;

/// The function as it was, with its module; on an error the function and the error, so that nothing else fails for it.
pub(crate) fn expand(kind: Kind, args: TokenStream, item: TokenStream) -> TokenStream {
    let function = match syn::parse2::<ItemFn>(item.clone()) {
        Ok(function) => function,
        Err(_) => {
            let message = format!("#[{}] stands on a function", kind.attribute());
            let error = syn::Error::new_spanned(&item, message).into_compile_error();
            return quote!(#error #item);
        }
    };
    let module = Args::parse(kind, args).and_then(|args| module(kind, &args, &function));
    let module = module.unwrap_or_else(|error| error.into_compile_error());
    quote!(#function #module)
}

fn module(kind: Kind, args: &Args, function: &ItemFn) -> syn::Result<TokenStream> {
    let signature = Signature::of(kind, function)?;
    let name = &function.sig.ident;
    let vis = &function.vis;
    let doc = format!("The module that [`{name}`](fn@{name}) is.");
    let config = match signature.config {
        Some(config) => quote!(#config),
        None => quote!(::millstream_sdk::NoConfig),
    };
    let has_state = kind == Kind::Processor;
    let state = has_state.then(|| quote!(, &mut state));
    let call = match signature.config {
        Some(_) => quote!(#name(record #state, config)),
        None => quote!(#name(record #state)),
    };
    let open = has_state.then(|| quote!(let mut state = ::millstream_sdk::State::open();));
    let close = has_state.then(|| quote!(, state));
    let answer = format_ident!("{}", kind.answer_trait());
    // Placed at the return type, so that the compiler points there when it is none of those allowed.
    let write = quote_spanned! { signature.answer.span() =>
        ::millstream_sdk::__private::#answer::write(answer, record #close, verdicts)
    };
    let reads_payload = match &args.reads {
        Reads::Payload => quote!(true),
        Reads::Headers => quote!(false),
        Reads::From(path) => quote!(#path(config)),
    };
    let emits = kind.emits();
    let keeps = matches!(kind, Kind::Filter | Kind::Map | Kind::FlatMap | Kind::Processor);
    let rejects = !(kind == Kind::Filter && signature.answers_bool());
    let topics = topics(kind, &args.topics);
    let exports = exports(kind, args, name, &config);
    Ok(quote! {
        #[doc = #doc]
        #[allow(non_camel_case_types, reason = "named as the function")]
        #[allow(clippy::empty_enum, reason = "a name for the type system alone")]
        #vis enum #name {}

        impl ::millstream_sdk::Module for #name {
            type Config = #config;
            const VERDICTS: ::millstream_sdk::Verdicts =
                ::millstream_sdk::Verdicts { keep: #keeps, drop: true, emit: #emits, reject: #rejects };

            const HAS_STATE: bool = #has_state;

            #[allow(unused_variables, reason = "not every module asks its configuration")]
            fn reads_payload(config: &Self::Config) -> bool {
                #reads_payload
            }

            #[allow(unused_variables, reason = "not every module asks its configuration")]
            fn topics(config: &Self::Config) -> ::std::vec::Vec<::std::string::String> {
                #topics
            }

            #[inline]
            #[allow(unused_variables, reason = "not every module has a configuration")]
            fn judge(
                record: &::millstream_sdk::Record<'_>,
                config: &Self::Config,
                verdicts: &mut ::millstream_sdk::__private::VerdictWriter,
            ) {
                #open
                let answer = #call;
                #write
            }
        }

        #exports
    })
}

fn topics(kind: Kind, topics: &Topics) -> TokenStream {
    match topics {
        Topics::Listed(patterns) => quote!(::std::vec![#(::std::string::String::from(#patterns)),*]),
        Topics::From(path) => quote!(#path(config)),
        Topics::Unsaid if kind == Kind::Route => quote!(::std::vec![::std::string::String::from(">")]),
        Topics::Unsaid => quote!(::std::vec::Vec::new()),
    }
}

/// The component's exports and the section that the guest build lifts to the component's top level.
fn exports(kind: Kind, args: &Args, name: &syn::Ident, config: &TokenStream) -> TokenStream {
    let module_name = match &args.name {
        Some(name) => quote!(#name),
        None => quote!(::core::env!("CARGO_PKG_NAME")),
    };
    let tail = format!(
        r#"","description":{},"kind":"{}","reads":{},"contract":1,"sdk":"{}","config_schema":"#,
        quoted(&description()),
        kind.attribute(),
        if matches!(args.reads, Reads::Headers) {
            r#"["key","headers"]"#
        } else {
            r#"["key","headers","payload"]"#
        },
        env!("CARGO_PKG_VERSION"),
    );
    quote! {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use ::millstream_sdk::SchemaText;
            const MANIFEST: SchemaText = SchemaText::Parts(&[
                SchemaText::Text(::core::concat!(
                    "{\"name\":\"", #module_name, "\",\"version\":\"", ::core::env!("CARGO_PKG_VERSION"), #tail
                )),
                <#config as ::millstream_sdk::ModuleConfig>::SCHEMA,
                SchemaText::Text("}"),
            ]);
            #[used]
            #[unsafe(link_section = "millstream:manifest")]
            static SECTION: [u8; MANIFEST.len()] = MANIFEST.bytes();
            type Exported = ::millstream_sdk::__private::Exported<#name>;
            ::millstream_sdk::__private::bindings::export!(
                Exported with_types_in ::millstream_sdk::__private::bindings
            );
        };
    }
}

/// The description of the crate that is compiled.
fn description() -> String {
    let text = std::env::var("CARGO_PKG_DESCRIPTION").unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
