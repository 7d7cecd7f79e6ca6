//! Wrong uses and what the compiler says of them.

use proc_macro2::TokenStream;
use quote::quote;

use crate::kind::Kind;
use crate::{config, module};

/// The errors are texts in `compile_error!` calls; their quotes are escaped there.
#[track_caller]
fn check(expansion: &TokenStream, wanted: &str) {
    let text = expansion.to_string();
    assert!(text.contains("compile_error"), "no error in {text}");
    let wanted = wanted.replace('"', "\\\"");
    assert!(text.contains(&wanted), "{wanted:?} is not in {text}");
}

#[track_caller]
fn filter(args: TokenStream, item: TokenStream, wanted: &str) {
    check(&module::expand(Kind::Filter, args, item), wanted);
}

#[test]
fn wrong_signatures() {
    let wanted = "a #[filter] function is `fn f(record: &Record) -> bool` or `fn f(record: &Record, config: &Config) -> bool`";
    filter(
        quote!(),
        quote!(
            fn f() -> bool {}
        ),
        "it takes no record",
    );
    filter(
        quote!(),
        quote!(
            fn f() -> bool {}
        ),
        wanted,
    );
    filter(
        quote!(),
        quote!(
            fn f(record: Record) -> bool {}
        ),
        "its first parameter is not `&Record`",
    );
    filter(
        quote!(),
        quote!(
            fn f(record: &mut Record) -> bool {}
        ),
        "its first parameter is not `&Record`",
    );
    filter(
        quote!(),
        quote!(
            fn f(record: &Record, config: Config) -> bool {}
        ),
        "its second parameter is not a reference",
    );
    filter(
        quote!(),
        quote!(
            fn f(record: &Record, a: &A, b: &B) -> bool {}
        ),
        "more than two parameters",
    );
    filter(
        quote!(),
        quote!(
            fn f(record: &Record) {}
        ),
        "it returns nothing",
    );
    filter(
        quote!(),
        quote!(
            async fn f(record: &Record) -> bool {}
        ),
        "cannot be async",
    );
    filter(
        quote!(),
        quote!(
            unsafe fn f(record: &Record) -> bool {}
        ),
        "cannot be unsafe",
    );
    filter(
        quote!(),
        quote!(
            fn f<T>(record: &Record) -> bool {}
        ),
        "cannot have type parameters",
    );
    filter(
        quote!(),
        quote!(
            fn f(&self) -> bool {}
        ),
        "a module is a free function",
    );
    filter(
        quote!(),
        quote!(
            struct S;
        ),
        "#[filter] stands on a function",
    );
}

#[test]
fn wrong_arguments() {
    let item = || {
        quote!(
            fn f(record: &Record) -> bool {}
        )
    };
    filter(quote!(read = "headers"), item(), "`read` is not known here; there are `name`, `reads`");
    filter(quote!(reads = "key"), item(), "`reads` is \"headers\"");
    filter(quote!(reads = "headers", reads_from = f), item(), "`reads` is given twice");
    filter(quote!(name = "a b"), item(), "a module's name has");
    filter(quote!(topics = "a"), item(), "a filter sends no records to topics");
    check(&module::expand(Kind::Route, quote!(topics = "a..b"), item()), "not a topic pattern");
    check(&module::expand(Kind::Route, quote!(topics = ["a.>.b"]), item()), "not a topic pattern");
}

#[test]
fn an_error_leaves_the_function_there() {
    let expansion = module::expand(
        Kind::Map,
        quote!(),
        quote!(
            fn f() -> bool {
                true
            }
        ),
    )
    .to_string();
    assert!(expansion.starts_with("fn f () -> bool { true }"), "{expansion}");
}

#[test]
fn wrong_configurations() {
    check(
        &config::expand(quote!(
            struct C<T> {
                t: T,
            }
        )),
        "a concrete type",
    );
    check(
        &config::expand(quote!(
            struct C(u8);
        )),
        "has named fields",
    );
    check(
        &config::expand(quote!(
            struct C;
        )),
        "has named fields",
    );
    check(&config::expand(quote!(union C { a: u8 })), "a struct or an enum");
}

#[test]
fn wrong_options_of_fields() {
    let of = |field: TokenStream| config::expand(quote!(struct C { #field }));
    check(&of(quote!(#[config(default = an_hour())] a: u8)), "a default is a number, a text or a bool");
    check(&of(quote!(#[config(defalt = 1)] a: u8)), "it is #[config(default = 60)] or #[config(any)]");
    check(
        &config::expand(quote!(
            enum C {
                A {
                    #[config(any)]
                    a: u8,
                },
            }
        )),
        "stands on the fields of a struct",
    );
    // As serde's own derive says it.
    check(
        &of(quote!(#[serde(flatten, skip_serializing, rename = "b")] #[serde(rename = "c")] a: u8)),
        "duplicate serde attribute",
    );
}
