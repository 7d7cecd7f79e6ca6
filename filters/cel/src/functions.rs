//! What expressions can call: CEL's own functions, its extensions for texts, lists, numbers and base64, and what is ours.

use std::cell::RefCell;
use std::collections::BTreeMap;

use cel::common::types::{CelBool, CelList, CelMap, CelString, DYN_TYPE, STRING_TYPE};
use cel::common::value::{CowVal, Val};
use cel::{DeclarationError, Env, ExecutionError, extensions};
use regex::{Regex, RegexBuilder};

/// Answers the keys of a map as a sorted list, and anything else as it is. No expression can name it.
pub(crate) const SORTED: &str = "@sorted";
/// Compiled patterns kept; there are more only where an expression takes them from records.
const PATTERNS_MAX: usize = 16;
/// A module has 16 MiB.
const PATTERN_BYTES_MAX: usize = 1 << 20;
const PATTERN_CACHE_BYTES_MAX: usize = 256 << 10;

thread_local! {
    // Only speed depends on it: a pattern costs far more to compile than to match.
    static PATTERNS: RefCell<BTreeMap<String, Regex>> = const { RefCell::new(BTreeMap::new()) };
}

/// The functions and macros that there are.
pub(crate) fn environment() -> Result<Env, String> {
    declare(Env::stdlib()).map_err(|error| error.to_string())
}

fn declare(mut env: Env) -> Result<Env, DeclarationError> {
    env.add_extension(extensions::strings)?;
    env.add_extension(extensions::lists)?;
    env.add_extension(extensions::math)?;
    env.add_extension(extensions::encoders)?;
    env.add_overload("matches", "matches", vec![STRING_TYPE, STRING_TYPE], matches)?;
    env.add_member_overload("matches", "matches_string", STRING_TYPE, vec![STRING_TYPE], matches)?;
    env.add_overload(SORTED, "@sorted_dyn", vec![DYN_TYPE], sorted)?;
    Ok(env)
}

/// Compiles a pattern, or says what is wrong with it.
pub(crate) fn pattern(text: &str) -> Result<Regex, String> {
    RegexBuilder::new(text)
        .size_limit(PATTERN_BYTES_MAX)
        .dfa_size_limit(PATTERN_CACHE_BYTES_MAX)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => {
                format!("{text:?} is too large a pattern: above {PATTERN_BYTES_MAX} bytes when compiled")
            }
            // Its last line says what, those before show where.
            other => {
                let error = other.to_string();
                let what = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
                format!("{text:?} is not a regular expression: {what}")
            }
        })
}

fn matches<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let text = |index: usize| args.get(index).and_then(|arg| arg.downcast_ref::<CelString<'_>>());
    let (Some(text), Some(wanted)) = (text(0), text(1)) else {
        return Err(ExecutionError::missing_argument_or_target());
    };
    let (text, wanted) = (text.inner(), wanted.inner());
    let found = PATTERNS.with_borrow_mut(|patterns| {
        if let Some(pattern) = patterns.get(wanted) {
            return Ok(pattern.is_match(text));
        }
        let pattern = pattern(wanted).map_err(|fault| ExecutionError::function_error("matches", fault))?;
        let found = pattern.is_match(text);
        if patterns.len() >= PATTERNS_MAX {
            patterns.clear();
        }
        patterns.insert(wanted.to_owned(), pattern);
        Ok(found)
    })?;
    Ok(CowVal::owned(CelBool::from(found)))
}

fn sorted<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let arg = args.into_iter().next().ok_or_else(ExecutionError::missing_argument_or_target)?;
    let Some(map) = arg.downcast_ref::<CelMap<'v>>() else { return Ok(arg) };
    let mut keys: Vec<_> = map.keys().collect();
    keys.sort_unstable();
    let keys: Vec<Box<dyn Val + 'v>> = keys.into_iter().map(|key| key.inner().clone_as_boxed()).collect();
    Ok(CowVal::owned(CelList::from(keys)))
}
