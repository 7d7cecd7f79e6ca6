//! The shape of the user's function, checked so that errors speak of it and not of what it expands to.

use syn::{FnArg, ItemFn, Pat, ReturnType, Safety, Type};

use crate::kind::Kind;

/// What the expansion needs to know of a function.
pub(crate) struct Signature<'a> {
    /// Type behind the last reference, if there is one.
    pub(crate) config: Option<&'a Type>,
    /// What the function returns.
    pub(crate) answer: Type,
}

impl<'a> Signature<'a> {
    /// Checks `function` and takes it apart.
    pub(crate) fn of(kind: Kind, function: &'a ItemFn) -> syn::Result<Self> {
        let (attribute, returns, sig) = (kind.attribute(), kind.returns(), &function.sig);
        let wanted = format!(
            "a #[{attribute}] function is `fn {}({params}) -> {returns}` or `fn {0}({params}, config: &Config) -> {returns}`",
            sig.ident,
            params = kind.params()
        );
        let refuse = |tokens: &dyn quote::ToTokens, fault: &str| {
            Err(syn::Error::new_spanned(tokens, format!("{fault}; {wanted}")))
        };
        if let Some(token) = &sig.asyncness {
            return refuse(token, "a module's function runs to its end: it cannot be async");
        }
        if let Some(token) = &sig.constness {
            return refuse(token, "it cannot be const");
        }
        if let Safety::Unsafe(token) = &sig.safety {
            return refuse(token, "it cannot be unsafe");
        }
        if let Some(param) = sig.generics.type_params().next() {
            return refuse(param, "it cannot have type parameters");
        }
        if let Some(param) = sig.generics.const_params().next() {
            return refuse(param, "it cannot have const parameters");
        }
        let mut inputs = sig.inputs.iter();
        let Some(record) = inputs.next() else {
            return refuse(&sig.ident, "it takes no record");
        };
        if referenced(record)?.is_none() {
            return refuse(record, "its first parameter is not `&Record`");
        }
        let has_state = kind == Kind::Processor;
        if has_state {
            match inputs.next() {
                Some(state) if is_mutable_reference(state) => {}
                Some(state) => return refuse(state, "its second parameter is not `&mut State`"),
                None => return refuse(&sig.ident, "it takes no state"),
            }
        }
        let (place, most) = if has_state { ("third", "three") } else { ("second", "two") };
        let config = match inputs.next() {
            None => None,
            Some(config) => match referenced(config)? {
                Some(config) => Some(config),
                None => {
                    let fault = format!("its {place} parameter is not a reference to a config type");
                    return refuse(config, &fault);
                }
            },
        };
        if let Some(extra) = inputs.next() {
            return refuse(extra, &format!("it has more than {most} parameters"));
        }
        let answer = match &sig.output {
            ReturnType::Type(_, answer) => Type::clone(answer),
            ReturnType::Default if has_state => syn::parse_quote!(()),
            ReturnType::Default => return refuse(&sig.ident, "it returns nothing"),
        };
        Ok(Self { config, answer })
    }

    /// Whether it returns a plain `bool`, and so never rejects.
    pub(crate) fn answers_bool(&self) -> bool {
        matches!(&self.answer, Type::Path(path) if path.path.is_ident("bool"))
    }
}

fn is_mutable_reference(input: &FnArg) -> bool {
    matches!(input, FnArg::Typed(typed) if matches!(&*typed.ty, Type::Reference(it) if it.mutability.is_some()))
}

/// The type behind a shared reference; `None` for any other type.
fn referenced(input: &FnArg) -> syn::Result<Option<&Type>> {
    match input {
        FnArg::Receiver(receiver) => {
            Err(syn::Error::new_spanned(receiver, "a module is a free function: it has no `self`"))
        }
        FnArg::Typed(typed) => Ok(match (&*typed.ty, &*typed.pat) {
            (Type::Reference(reference), Pat::Ident(_) | Pat::Wild(_) | Pat::Struct(_))
                if reference.mutability.is_none() =>
            {
                Some(&reference.elem)
            }
            _ => None,
        }),
    }
}
