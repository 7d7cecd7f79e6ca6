//! One expression, compiled and checked when the module is bound.

use std::sync::Arc;

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SourceInfo};
use cel::common::value::{CowVal, Val};
use cel::{Context, Env, ExecutionError, Value};
use millstream_filter_predicate::ConfigError;

use crate::functions;
use crate::needs::{Needs, parts};

const VARIABLES: [&str; 5] = ["headers", "key", "payload", "offset", "timestamp"];
/// Values are shown in errors, and a value may be as large as a payload.
const REASON_CHARS_MAX: usize = 300;

/// An expression, and the field of the configuration that it stands in.
#[derive(Debug)]
pub(crate) struct Expression {
    field: &'static str,
    root: IdedExpr,
    /// It reads nothing of a record.
    is_constant: bool,
}

impl Expression {
    /// Compiles `source`, and adds what it reads to `needs`.
    pub(crate) fn compile(
        field: &'static str,
        source: &str,
        env: &Arc<Env>,
        needs: &mut Needs,
    ) -> Result<Self, String> {
        let (mut root, info) = env.parser().parse_with_source_info(source).map_err(|errors| {
            let first = errors.errors.first();
            first.map_or_else(
                || errors.to_string(),
                |error| {
                    format!(
                        "line {}, column {}: {}",
                        error.pos.0,
                        error.pos.1,
                        no_expression(field, &error.msg)
                    )
                },
            )
        })?;
        let context = Context::with_env(Arc::clone(env));
        Checker { context: &context, info: &info }.check(&root, &mut Vec::new())?;
        let mut own = Needs::default();
        own.add(&root, &mut Vec::new());
        needs.add(&root, &mut Vec::new());
        order(&mut root);
        Ok(Self { field, root, is_constant: own == Needs::default() })
    }

    /// Refuses what reads nothing of a record when `check` does not take what it comes to, or when it fails.
    pub(crate) fn check_constant<T>(
        &self,
        context: &Context<'_, '_>,
        check: impl FnOnce(&dyn Val) -> Result<T, String>,
    ) -> Result<(), ConfigError> {
        if !self.is_constant {
            return Ok(());
        }
        self.evaluate(context).and_then(|result| check(result.as_ref())).map(drop).map_err(|fault| {
            let fault = format!("{fault}, whatever the record: a right one is {}", example(self.field));
            ConfigError::new(format!("config.{}", self.field), fault)
        })
    }

    /// Its value in `context`.
    pub(crate) fn evaluate<'e, 'v>(&'e self, context: &'e Context<'_, 'v>) -> Result<CowVal<'e, 'v>, String> {
        Value::resolve_val(&self.root, context).map_err(|error| self.failed(&error))
    }

    /// Why its value is not one to use.
    pub(crate) fn fault(&self, what: String) -> String {
        format!("the result of `{}` {what}", self.field)
    }

    fn failed(&self, error: &ExecutionError) -> String {
        let mut reason = format!("`{}` failed: {error}", self.field);
        if let Some((end, _)) = reason.char_indices().nth(REASON_CHARS_MAX) {
            reason.truncate(end);
            reason.push_str("...");
        }
        reason
    }
}

/// What the parser says without its list of all that could stand there, and an expression that is one.
fn no_expression(field: &str, parser: &str) -> String {
    let what = parser.trim_start_matches("Syntax error: ").split(" expecting ").next().unwrap_or_default();
    let what = match what.contains("<EOF>") {
        true => "the expression ends too early".to_owned(),
        false => format!("this is no CEL expression ({what})"),
    };
    format!("{what}; a right one is {}", example(field))
}

fn example(field: &str) -> &'static str {
    match field {
        "map" => "`{\"carrier\": payload.carrier}`",
        "route" => "`\"flights.\" + headers.carrier`",
        _ => "`payload.dep_delay > 60`",
    }
}

/// Finds what would fail for every record.
struct Checker<'c> {
    /// Without variables.
    context: &'c Context<'c, 'c>,
    info: &'c SourceInfo,
}

impl Checker<'_> {
    fn check<'e>(&self, expr: &'e IdedExpr, bound: &mut Vec<&'e str>) -> Result<(), String> {
        match &expr.expr {
            Expr::Ident(name) if !bound.contains(&name.as_str()) => self.ident(expr, name)?,
            Expr::Call(call) => {
                self.function(expr, call, bound)?;
                self.pattern(call)?;
                // A target that is not a value is the first part of the function's name: `math` in `math.greatest`.
                let target = call.target.as_deref().filter(|target| !is_namespace(target, bound));
                return target.into_iter().chain(&call.args).try_for_each(|part| self.check(part, bound));
            }
            Expr::Comprehension(comprehension) => {
                self.check(&comprehension.iter_range, bound)?;
                self.check(&comprehension.accu_init, bound)?;
                let before = bound.len();
                bound.extend([comprehension.iter_var.as_str(), comprehension.accu_var.as_str()]);
                bound.extend(comprehension.iter_var2.as_deref());
                let inner = [&comprehension.loop_cond, &comprehension.loop_step, &comprehension.result];
                let checked = inner.into_iter().try_for_each(|part| self.check(part, bound));
                bound.truncate(before);
                return checked;
            }
            _ => {}
        }
        let mut checked = Ok(());
        parts(expr, &mut |part| {
            if checked.is_ok() {
                checked = self.check(part, bound);
            }
        });
        checked
    }

    fn ident(&self, expr: &IdedExpr, name: &str) -> Result<(), String> {
        // The names of types are known without a variable.
        if VARIABLES.contains(&name) || Value::resolve_val(expr, self.context).is_ok() {
            return Ok(());
        }
        let fault = format!("`{name}` is not known here; there are {}", VARIABLES.join(", "));
        Err(self.at(expr, &fault))
    }

    /// Calls the function without arguments: one that does not exist says so, any other misses them.
    fn function(&self, expr: &IdedExpr, call: &CallExpr, bound: &[&str]) -> Result<(), String> {
        if !call.func_name.starts_with(|first: char| first.is_ascii_alphabetic()) {
            return Ok(());
        }
        let target = call.target.as_ref().map(|target| match is_namespace(target, bound) {
            true => target.clone(),
            false => Box::new(IdedExpr { id: 0, expr: Expr::Literal(LiteralValue::Null) }),
        });
        let probe = CallExpr { func_name: call.func_name.clone(), target, args: Vec::new() };
        let probe = IdedExpr { id: 0, expr: Expr::Call(probe) };
        match Value::resolve_val(&probe, self.context) {
            Err(ExecutionError::UndeclaredReference(name)) => {
                Err(self.at(expr, &format!("there is no function `{name}`")))
            }
            _ => Ok(()),
        }
    }

    /// A pattern that is written out must be one.
    fn pattern(&self, call: &CallExpr) -> Result<(), String> {
        let (true, Some(pattern)) = (call.func_name == "matches", call.args.last()) else { return Ok(()) };
        let Expr::Literal(LiteralValue::String(text)) = &pattern.expr else { return Ok(()) };
        functions::pattern(text.inner()).map(|_| ()).map_err(|fault| self.at(pattern, &fault))
    }

    fn at(&self, expr: &IdedExpr, fault: &str) -> String {
        let Some((offset, _)) = self.info.offset_for(expr.id) else { return fault.to_owned() };
        let before: String = self.info.source.chars().take(offset as usize).collect();
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|char| *char != '\n').count() + 1;
        format!("line {line}, column {column}: {fault}")
    }
}

/// Whether `expr` spells a name that no variable has: a part of a function's name.
fn is_namespace(expr: &IdedExpr, bound: &[&str]) -> bool {
    match &expr.expr {
        Expr::Ident(name) => !VARIABLES.contains(&name.as_str()) && !bound.contains(&name.as_str()),
        Expr::Select(select) if !select.test => is_namespace(&select.operand, bound),
        _ => false,
    }
}

/// Gives every walk over a map an order: its own is that of a hash table, which differs from run to run.
fn order(expr: &mut IdedExpr) {
    match &mut expr.expr {
        Expr::Unspecified | Expr::Literal(_) | Expr::Ident(_) => {}
        Expr::Call(call) => {
            call.target.iter_mut().for_each(|target| order(target));
            call.args.iter_mut().for_each(order);
            // A list takes the keys of a map behind it.
            if call.func_name == "_+_" {
                call.args.iter_mut().skip(1).for_each(sorted);
            }
        }
        Expr::Select(select) => order(&mut select.operand),
        Expr::List(list) => list.elements.iter_mut().for_each(order),
        Expr::Map(map) => map.entries.iter_mut().for_each(|entry| order_entry(&mut entry.expr)),
        Expr::Struct(one) => one.entries.iter_mut().for_each(|entry| order_entry(&mut entry.expr)),
        Expr::Comprehension(one) => {
            [
                &mut one.iter_range,
                &mut one.accu_init,
                &mut one.loop_cond,
                &mut one.loop_step,
                &mut one.result,
            ]
            .into_iter()
            .for_each(order);
            sorted(&mut one.iter_range);
        }
    }
}

fn order_entry(entry: &mut EntryExpr) {
    match entry {
        EntryExpr::StructField(field) => order(&mut field.value),
        EntryExpr::MapEntry(entry) => {
            order(&mut entry.key);
            order(&mut entry.value);
        }
    }
}

/// Wraps what may be a map.
fn sorted(expr: &mut IdedExpr) {
    if matches!(expr.expr, Expr::List(_) | Expr::Literal(_)) {
        return;
    }
    let inner = std::mem::take(expr);
    let call = CallExpr { func_name: functions::SORTED.to_owned(), target: None, args: vec![inner] };
    *expr = IdedExpr { id: 0, expr: Expr::Call(call) };
}
