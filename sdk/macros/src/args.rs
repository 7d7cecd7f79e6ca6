//! The arguments of an attribute: `name`, `reads`, `reads_from`, `topics`, `topics_from`.

use syn::parse::{Parse, ParseStream};
use syn::{ExprPath, Ident, LitStr, Token, bracketed};

use crate::kind::Kind;

/// The arguments of an attribute, as written.
#[derive(Default)]
pub(crate) struct Args {
    pub(crate) reads: Reads,
    pub(crate) name: Option<String>,
    pub(crate) topics: Topics,
}

/// What a module says it reads.
#[derive(Default)]
pub(crate) enum Reads {
    #[default]
    Payload,
    Headers,
    From(Box<ExprPath>),
}

/// Where a module says it may send records.
#[derive(Default)]
pub(crate) enum Topics {
    #[default]
    Unsaid,
    Listed(Vec<LitStr>),
    From(Box<ExprPath>),
}

impl Args {
    /// Parses and checks what stands in the attribute's parentheses.
    pub(crate) fn parse(kind: Kind, tokens: proc_macro2::TokenStream) -> syn::Result<Self> {
        let mut args = Self::default();
        let mut seen = Vec::new();
        for Arg { name, value } in syn::parse2::<ArgList>(tokens)?.0 {
            // `reads` and `reads_from` are one argument, as are `topics` and `topics_from`.
            let noun = name.to_string().trim_end_matches("_from").to_owned();
            if seen.contains(&noun) {
                return Err(syn::Error::new(name.span(), format!("`{noun}` is given twice")));
            }
            match value {
                Value::Reads(reads) => args.reads = reads,
                Value::Name(text) => args.name = Some(module_name(&text)?),
                Value::Topics(topics) => args.topics(kind, &name, topics)?,
            }
            seen.push(noun);
        }
        Ok(args)
    }

    fn topics(&mut self, kind: Kind, name: &Ident, topics: Topics) -> syn::Result<()> {
        if !kind.emits() {
            return Err(syn::Error::new(
                name.span(),
                "a filter sends no records to topics: use #[route] or #[map]",
            ));
        }
        if let Topics::Listed(patterns) = &topics {
            patterns.iter().try_for_each(check_pattern)?;
        }
        self.topics = topics;
        Ok(())
    }
}

struct ArgList(Vec<Arg>);

struct Arg {
    name: Ident,
    value: Value,
}

enum Value {
    Reads(Reads),
    Name(LitStr),
    Topics(Topics),
}

impl Parse for ArgList {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let args = input.parse_terminated(Arg::parse, Token![,])?;
        Ok(Self(args.into_iter().collect()))
    }
}

impl Parse for Arg {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let name: Ident = input.parse()?;
        input.parse::<Token![=]>()?;
        let value = match name.to_string().as_str() {
            "reads" => Value::Reads(reads(&input.parse()?)?),
            "reads_from" => Value::Reads(Reads::From(Box::new(input.parse()?))),
            "name" => Value::Name(input.parse()?),
            "topics" => Value::Topics(Topics::Listed(patterns(input)?)),
            "topics_from" => Value::Topics(Topics::From(Box::new(input.parse()?))),
            other => {
                let known = "`name`, `reads`, `reads_from`, `topics` and `topics_from`";
                return Err(syn::Error::new(
                    name.span(),
                    format!("`{other}` is not known here; there are {known}"),
                ));
            }
        };
        Ok(Self { name, value })
    }
}

/// `"a"` or `["a", "b"]`.
fn patterns(input: ParseStream<'_>) -> syn::Result<Vec<LitStr>> {
    if !input.peek(syn::token::Bracket) {
        return Ok(vec![input.parse()?]);
    }
    let inside;
    bracketed!(inside in input);
    Ok(inside.parse_terminated(<LitStr as Parse>::parse, Token![,])?.into_iter().collect())
}

fn reads(reads: &LitStr) -> syn::Result<Reads> {
    match reads.value().as_str() {
        "headers" => Ok(Reads::Headers),
        "payload" => Ok(Reads::Payload),
        _ => Err(syn::Error::new(
            reads.span(),
            "`reads` is \"headers\" (offset, timestamp, key, headers) or \"payload\" (those and the payload, the default)",
        )),
    }
}

fn module_name(text: &LitStr) -> syn::Result<String> {
    let name = text.value();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let good = name.len() <= 200 && name.split('/').all(|part| !part.is_empty() && part.bytes().all(plain));
    match good {
        true => Ok(name),
        false => {
            Err(syn::Error::new(text.span(), "a module's name has A-Z a-z 0-9 _ - . and / between its parts"))
        }
    }
}

/// The rule of `millstream_types::TopicPattern`, told at compile time.
fn check_pattern(pattern: &LitStr) -> syn::Result<()> {
    let text = pattern.value();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let mut segments = text.split('.').peekable();
    let mut good = text.len() <= 255;
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        good &= match segment {
            "*" => true,
            ">" => last,
            segment => !segment.is_empty() && segment.bytes().all(plain),
        };
    }
    match good {
        true => Ok(()),
        false => Err(syn::Error::new(
            pattern.span(),
            "not a topic pattern: segments of A-Z a-z 0-9 _ - separated by dots; `*` is one segment, a final `>` the rest",
        )),
    }
}
