//! What of its variables an expression reads, so that nothing else is built for it.

use cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue};

/// A tree of the names that are read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Read as a whole, not only by the names below.
    whole: bool,
    fields: Vec<(String, Needs)>,
}

impl Needs {
    /// What is read of the field `name`; `None` when it is not read at all.
    pub(crate) fn child(&self, name: &str) -> Option<&Self> {
        match self.whole {
            true => Some(self),
            false => self.fields.iter().find(|(field, _)| field == name).map(|(_, needs)| needs),
        }
    }

    /// Whether it is read as a whole.
    pub(crate) fn is_whole(&self) -> bool {
        self.whole
    }

    /// The fields read by name.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|(name, _)| name.as_str())
    }

    /// Adds what `expr` reads; names in `bound` are variables of its own comprehensions.
    pub(crate) fn add<'e>(&mut self, expr: &'e IdedExpr, bound: &mut Vec<&'e str>) {
        if let Some(path) = path(expr) {
            if path.first().is_some_and(|root| !bound.contains(root)) {
                self.add_path(&path);
            }
            return;
        }
        match &expr.expr {
            Expr::Comprehension(comprehension) => {
                self.add(&comprehension.iter_range, bound);
                self.add(&comprehension.accu_init, bound);
                let before = bound.len();
                bound.extend([comprehension.iter_var.as_str(), comprehension.accu_var.as_str()]);
                bound.extend(comprehension.iter_var2.as_deref());
                self.add(&comprehension.loop_cond, bound);
                self.add(&comprehension.loop_step, bound);
                self.add(&comprehension.result, bound);
                bound.truncate(before);
            }
            _ => parts(expr, &mut |part| self.add(part, bound)),
        }
    }

    fn add_path(&mut self, path: &[&str]) {
        let Some((name, rest)) = path.split_first() else {
            self.whole = true;
            return;
        };
        match self.fields.iter_mut().find(|(field, _)| field == name) {
            Some((_, needs)) => needs.add_path(rest),
            None => {
                let mut needs = Self::default();
                needs.add_path(rest);
                self.fields.push(((*name).to_owned(), needs));
            }
        }
    }
}

/// The names that lead from a variable to what `expr` reads, the variable first: `a.b`, `a["b"]`, `a.?b`, `has(a.b)`.
fn path(expr: &IdedExpr) -> Option<Vec<&str>> {
    match &expr.expr {
        Expr::Ident(name) => Some(vec![name]),
        Expr::Select(select) => {
            let mut names = path(&select.operand)?;
            names.push(&select.field);
            Some(names)
        }
        Expr::Call(call) if matches!(call.func_name.as_str(), "_[_]" | "_[?_]" | "_?._") => {
            let (None, [operand, index]) = (&call.target, call.args.as_slice()) else { return None };
            let Expr::Literal(LiteralValue::String(field)) = &index.expr else { return None };
            let mut names = path(operand)?;
            names.push(field.inner());
            Some(names)
        }
        _ => None,
    }
}

/// The expressions that `expr` is made of, those of a comprehension included.
pub(crate) fn parts<'e>(expr: &'e IdedExpr, each: &mut dyn FnMut(&'e IdedExpr)) {
    match &expr.expr {
        Expr::Unspecified | Expr::Literal(_) | Expr::Ident(_) => {}
        Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).for_each(each),
        Expr::Select(select) => each(&select.operand),
        Expr::List(list) => list.elements.iter().for_each(each),
        Expr::Map(map) => map.entries.iter().for_each(|entry| entry_parts(&entry.expr, each)),
        Expr::Struct(one) => one.entries.iter().for_each(|entry| entry_parts(&entry.expr, each)),
        Expr::Comprehension(one) => {
            [&one.iter_range, &one.accu_init, &one.loop_cond, &one.loop_step, &one.result]
                .into_iter()
                .for_each(each);
        }
    }
}

fn entry_parts<'e>(entry: &'e EntryExpr, each: &mut dyn FnMut(&'e IdedExpr)) {
    match entry {
        EntryExpr::StructField(field) => each(&field.value),
        EntryExpr::MapEntry(entry) => [&entry.key, &entry.value].into_iter().for_each(each),
    }
}
