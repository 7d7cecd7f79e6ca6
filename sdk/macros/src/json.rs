//! Texts as JSON, written while a module is compiled.

/// `text` in quotes.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            char if char < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(char))),
            char => out.push(char),
        }
    }
    out.push('"');
    out
}

/// The first paragraph of the doc comment in `attrs`, on one line.
pub(crate) fn description(attrs: &[syn::Attribute]) -> Option<String> {
    let mut lines = Vec::new();
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("doc")) {
        if let syn::Meta::NameValue(syn::MetaNameValue {
            value: syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }),
            ..
        }) = &attr.meta
        {
            // Not `lines`, which takes an empty line for none: it ends the paragraph.
            lines.extend(text.value().split('\n').map(|line| line.trim().to_owned()));
        }
    }
    let lines = lines.iter().skip_while(|line| line.is_empty()).take_while(|line| !line.is_empty());
    let text = lines.map(String::as_str).collect::<Vec<_>>().join(" ");
    (!text.is_empty()).then_some(text)
}
