//! The kinds of change.

use syn::{BinOp, Block, Expr, ExprMatch, ExprMethodCall, Lit, Local, Pat, Signature, Stmt, Token, UnOp};

use super::site::{Change, marked};
use super::{Mutator, range};

/// Methods whose closure answers yes or no.
const ASKING: [&str; 14] = [
    "filter",
    "any",
    "all",
    "find",
    "position",
    "is_some_and",
    "is_none_or",
    "is_ok_and",
    "retain",
    "take_while",
    "skip_while",
    "remove_if",
    "partition",
    "rposition",
];
/// Calls that can be omitted, so that the value they are called on stays.
const LEFT_OUT: [&str; 14] = [
    "or",
    "or_else",
    "filter",
    "min",
    "max",
    "wrapping_add",
    "wrapping_sub",
    "saturating_add",
    "saturating_sub",
    "rev",
    "skip",
    "take",
    "clamp",
    "not",
];

pub fn is_assignment(operator: &BinOp) -> bool {
    assigning(operator).is_some()
}

/// The other operator of an assigning one.
fn assigning(operator: &BinOp) -> Option<&'static str> {
    Some(match operator {
        BinOp::AddAssign(_) => "-=",
        BinOp::SubAssign(_) => "+=",
        BinOp::MulAssign(_) => "/=",
        BinOp::DivAssign(_) => "*=",
        BinOp::BitAndAssign(_) => "|=",
        BinOp::BitOrAssign(_) => "&=",
        BinOp::BitXorAssign(_) => "|=",
        BinOp::ShlAssign(_) => ">>=",
        BinOp::ShrAssign(_) => "<<=",
        BinOp::RemAssign(_) => "/=",
        _ => return None,
    })
}

fn calculating(operator: &BinOp) -> Option<&'static str> {
    Some(match operator {
        BinOp::Add(_) => "-",
        BinOp::Sub(_) => "+",
        BinOp::Mul(_) => "/",
        BinOp::Div(_) => "*",
        BinOp::Rem(_) => "/",
        BinOp::BitAnd(_) => "|",
        BinOp::BitOr(_) => "&",
        BinOp::BitXor(_) => "|",
        BinOp::Shl(_) => ">>",
        BinOp::Shr(_) => "<<",
        _ => return None,
    })
}

/// The boundary of a comparison, and its opposite.
fn comparing(operator: &BinOp) -> Option<(&'static [&'static str], &'static str)> {
    Some(match operator {
        BinOp::Lt(_) => (&["<="], ">="),
        BinOp::Le(_) => (&["<"], ">"),
        BinOp::Gt(_) => (&[">="], "<="),
        BinOp::Ge(_) => (&[">"], "<"),
        BinOp::Eq(_) => (&[], "!="),
        BinOp::Ne(_) => (&[], "=="),
        _ => return None,
    })
}

/// Whether a condition binds names.
fn has_let(expression: &Expr) -> bool {
    match expression {
        Expr::Let(_) => true,
        Expr::Binary(binary) => has_let(&binary.left) || has_let(&binary.right),
        Expr::Paren(paren) => has_let(&paren.expr),
        _ => false,
    }
}

fn is_flag(name: &str) -> bool {
    ["is_", "has_", "may_", "can_", "was_"].iter().any(|prefix| name.starts_with(prefix))
}

fn is_constant_name(name: &str) -> bool {
    name.len() > 1 && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

fn is_camel(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase()) && name.contains(|c: char| c.is_ascii_lowercase())
}

impl Mutator<'_> {
    pub fn replace_body(&mut self, signature: &Signature, body: &Block) {
        if body.stmts.is_empty() {
            return;
        }
        let defaults: Vec<&str> = match self.returns.last() {
            Some(None) => vec![""],
            Some(Some(of)) => match self.text(of).as_str() {
                "bool" => vec!["true", "false"],
                "u8" | "u16" | "u32" | "u64" | "u128" | "usize" | "i32" | "i64" => vec!["0", "1"],
                "Duration" => vec!["Duration::ZERO"],
                text if text.starts_with("Option<") => vec!["None"],
                text if text.starts_with("Vec<") => vec!["Vec::new()"],
                text if text.starts_with("Result<(),") => vec!["Ok(())"],
                text if text.starts_with("Result<bool,") => vec!["Ok(true)", "Ok(false)"],
                _ => vec![],
            },
            None => vec![],
        };
        // A body that is the default already.
        let own = self.text(body);
        let own = own.trim_start_matches('{').trim_end_matches('}').trim().to_string();
        let mut lines = String::new();
        for default in defaults.into_iter().filter(|default| *default != own) {
            let what = format!("fn body → {}", if default.is_empty() { "()" } else { default });
            if let Some(id) = self.add(&signature.ident, what) {
                let back = marked(id, &format!("return {default};"));
                lines.push_str(&format!("if crate::mutant::is({id}) {{ {back} }} "));
            }
        }
        if !lines.is_empty() {
            let at = body.brace_token.span.open().byte_range().end;
            self.source.wrap(at..at, Box::new(move |_| format!(" {lines}")));
        }
    }

    pub fn delete_statement(&mut self, statement: &Stmt) {
        let Stmt::Expr(expression, Some(_)) = statement else { return };
        let what = match expression {
            Expr::Call(_) | Expr::MethodCall(_) | Expr::Try(_) => "statement",
            Expr::Assign(_) => "assignment",
            Expr::Binary(binary) if is_assignment(&binary.op) => "assignment",
            _ => return,
        };
        let text = self.text(expression);
        let Some(id) = self.add(expression, format!("{what} deleted: {text}")) else { return };
        let place = range(statement);
        let inner = place.clone();
        let wrap = move |render: &dyn Fn(std::ops::Range<usize>) -> String| {
            format!("if !crate::mutant::is({id}) {{ {} }}", marked(id, &render(inner.clone())))
        };
        self.source.wrap(place, Box::new(wrap));
    }

    /// `let is_known = …` forced.
    pub fn force_flag(&mut self, local: &Local) {
        let (Pat::Ident(name), Some(init)) = (&local.pat, &local.init) else { return };
        if is_flag(&name.ident.to_string()) && !matches!(*init.expr, Expr::Closure(_)) {
            let what = format!("let {}: {}", name.ident, self.text(&init.expr));
            self.force(&init.expr, &what);
        }
    }

    fn force(&mut self, expression: &Expr, what: &str) {
        if has_let(expression) {
            return;
        }
        let own = self.text(expression);
        let both = ["true", "false"].into_iter().filter(|value| *value != own);
        let changes = both.map(|value| Change::new(format!("{what} → {value}"), value)).collect();
        self.offer(expression, changes);
    }

    pub fn change_expression(&mut self, expression: &Expr) {
        match expression {
            Expr::If(condition) => {
                let what = format!("if {}", self.text(&condition.cond));
                self.force(&condition.cond, &what);
            }
            Expr::While(condition) => {
                let what = format!("while {}", self.text(&condition.cond));
                if !has_let(&condition.cond) {
                    self.offer(&condition.cond, vec![Change::new(format!("{what} → false"), "false")]);
                }
            }
            Expr::Binary(binary) => self.change_binary(expression, binary),
            Expr::Unary(unary) if matches!(unary.op, UnOp::Not(_)) => {
                let (text, inner) = (self.text(expression), self.text(&unary.expr));
                self.offer(expression, vec![Change::new(format!("{text}: ! removed"), inner)]);
            }
            Expr::Lit(literal) => match &literal.lit {
                Lit::Int(number) => {
                    let more = format!("{number}+1");
                    self.offer(expression, vec![Change::new(format!("literal {number} → {more}"), more)]);
                }
                Lit::Bool(flag) => {
                    let other = (!flag.value).to_string();
                    self.offer(expression, vec![Change::new(format!("{} → {other}", flag.value), other)]);
                }
                _ => {}
            },
            Expr::Path(path) => self.change_path(expression, &path.path),
            Expr::MethodCall(call) => self.change_method_call(expression, call),
            Expr::Call(call) if self.text(&call.func) == "Some" => {
                let text = self.text(expression);
                self.offer(expression, vec![Change::new(format!("{text} → None"), "None")]);
            }
            Expr::Match(choice) => self.change_match(choice),
            Expr::Macro(call) if call.mac.path.is_ident("matches") => self.change_matches(expression, call),
            _ => {}
        }
    }

    fn change_binary(&mut self, expression: &Expr, binary: &syn::ExprBinary) {
        let (left, right) = (self.text(&binary.left), self.text(&binary.right));
        let text = self.text(expression);
        if let Some(other) = assigning(&binary.op) {
            let change = Change::new(format!("{text}: op → {other}"), format!("{left} {other} {right}"));
            return self.offer(expression, vec![change]);
        }
        if let Some((boundaries, opposite)) = comparing(&binary.op) {
            let others = boundaries.iter().chain([&opposite]);
            let changes = others.map(|other| {
                Change::new(format!("{text}: op → {other}"), format!("({left}) {other} ({right})"))
            });
            return self.offer(expression, changes.collect());
        }
        if let Some(other) = calculating(&binary.op) {
            let change = Change::new(format!("{text}: op → {other}"), format!("({left}) {other} ({right})"));
            return self.offer(expression, vec![change]);
        }
        let neutral = match binary.op {
            BinOp::And(_) => "true",
            BinOp::Or(_) => "false",
            _ => return,
        };
        for (operand, operand_text) in [(&binary.left, &left), (&binary.right, &right)] {
            let is_chain =
                matches!(&**operand, Expr::Binary(inner) if matches!(inner.op, BinOp::And(_) | BinOp::Or(_)));
            let is_same = matches!((&**operand, &binary.op), (Expr::Binary(inner), op) if
                std::mem::discriminant(&inner.op) == std::mem::discriminant(op));
            if has_let(operand) || (is_chain && is_same) {
                continue;
            }
            let what = format!("operand {operand_text} → {neutral}");
            self.offer(operand, vec![Change::new(what, neutral)]);
        }
    }

    fn change_path(&mut self, expression: &Expr, path: &syn::Path) {
        let Some(last) = path.segments.last() else { return };
        let (name, text) = (last.ident.to_string(), self.text(expression));
        let holder = match path.segments.len() {
            1 => self.imported.get(&name).cloned(),
            count => Some(path.segments[count - 2].ident.to_string()),
        };
        if let Some(holder) = holder
            && is_camel(&name)
            && let Some(other) = self.terms.other_variant(&self.file, &holder, &name)
        {
            let prefix = text.strip_suffix(&name).unwrap_or_default();
            let full = if prefix.is_empty() { format!("{holder}::") } else { prefix.to_string() };
            self.offer(expression, vec![Change::new(format!("{text} → {other}"), format!("{full}{other}"))]);
        }
        if is_constant_name(&name) {
            let mut changes =
                vec![Change::new(format!("constant {text} doubled"), format!("{text} + {text}"))];
            if let Some(other) = match name.as_str() {
                "TCP" => Some("UDP"),
                "UDP" | "ICMP" => Some("TCP"),
                _ => None,
            } {
                let prefix = text.strip_suffix(&name).unwrap_or_default();
                changes.push(Change::new(format!("{text} → {other}"), format!("{prefix}{other}")));
            }
            self.offer(expression, changes);
        }
    }

    fn change_method_call(&mut self, expression: &Expr, call: &ExprMethodCall) {
        let (name, receiver) = (call.method.to_string(), self.text(&call.receiver));
        let text = self.text(expression);
        let mut changes = Vec::new();
        let other = match name.as_str() {
            "min" if call.args.len() == 1 => Some("max"),
            "max" if call.args.len() == 1 => Some("min"),
            "is_some" => Some("is_none"),
            "is_none" => Some("is_some"),
            "any" => Some("all"),
            "all" => Some("any"),
            _ => None,
        };
        if let Some(other) = other {
            let arguments = self.text(&call.args);
            changes.push(Change::new(
                format!("{text}: {name} → {other}"),
                format!("{receiver}.{other}({arguments})"),
            ));
        }
        if LEFT_OUT.contains(&name.as_str()) && !call.args.is_empty() || name == "rev" {
            changes.push(Change::new(format!("call .{name} deleted: {text}"), receiver));
        }
        self.offer(expression, changes);
        if ASKING.contains(&name.as_str())
            && let Some(Expr::Closure(closure)) = call.args.last()
            && !matches!(*closure.body, Expr::Block(_))
        {
            let what = format!(".{name} closure {}", self.text(&closure.body));
            self.force(&closure.body, &what);
        }
    }

    /// An arm whose values a later one also matches is deleted, and so is each alternative of its pattern.
    fn change_match(&mut self, choice: &ExprMatch) {
        let Some(catch_all) = choice.arms.iter().position(is_catch_all) else {
            choice.arms.iter().for_each(|arm| self.force_guard(arm));
            return;
        };
        for arm in &choice.arms[..catch_all] {
            self.force_guard(arm);
            if arm.guard.as_ref().is_some_and(|(_, guard)| has_let(guard)) {
                continue;
            }
            let whole = self.text(&arm.pat);
            let alternatives: Vec<String> = match &arm.pat {
                Pat::Or(or) => or.cases.iter().map(|case| self.text(case)).collect(),
                _ => vec![],
            };
            let arm_id = self.add(&arm.pat, format!("match arm {whole} deleted"));
            let ids: Vec<(String, Option<u32>)> = alternatives
                .into_iter()
                .map(|case| {
                    let id = self.add(&arm.pat, format!("alternative {case} of {whole} deleted"));
                    (case, id)
                })
                .collect();
            let guard = arm.guard.as_ref().map(|(_, guard)| range(&**guard));
            let body = range(&*arm.body);
            let place = range(&arm.pat).start..body.end;
            let is_block = matches!(*arm.body, Expr::Block(_));
            let wrap = move |render: &dyn Fn(std::ops::Range<usize>) -> String| {
                let guard = guard.clone().map(|guard| format!(" && ({})", render(guard))).unwrap_or_default();
                let body = render(body.clone());
                let off = |id: Option<u32>| {
                    id.map(|id| format!(" && !crate::mutant::is({id})")).unwrap_or_default()
                };
                let cases = if ids.is_empty() { vec![(whole.clone(), None)] } else { ids.clone() };
                let arms: Vec<String> = cases
                    .into_iter()
                    .map(|(case, id)| {
                        let marks: String =
                            [arm_id, id].into_iter().flatten().map(|id| format!("/*<{id}*/")).collect();
                        let ends: String =
                            [id, arm_id].into_iter().flatten().map(|id| format!("/*{id}>*/")).collect();
                        format!("{marks} {case} if true{}{}{guard} {ends} => {body}", off(arm_id), off(id))
                    })
                    .collect();
                arms.join(if is_block { "\n" } else { ",\n" })
            };
            self.source.wrap(place, Box::new(wrap));
        }
    }

    fn force_guard(&mut self, arm: &syn::Arm) {
        if let Some((_, guard)) = &arm.guard {
            let what = format!("guard {}", self.text(guard));
            self.force(guard, &what);
        }
    }

    fn change_matches(&mut self, expression: &Expr, call: &syn::ExprMacro) {
        let parse = |input: syn::parse::ParseStream| {
            let value: Expr = input.parse()?;
            input.parse::<Token![,]>()?;
            let pattern = Pat::parse_multi_with_leading_vert(input)?;
            let guard = match input.parse::<Option<Token![if]>>()? {
                Some(_) => Some(input.parse::<Expr>()?),
                None => None,
            };
            input.parse::<Option<Token![,]>>()?;
            Ok((value, pattern, guard))
        };
        let Ok((value, pattern, guard)) = call.mac.parse_body_with(parse) else { return };
        let value = self.text(&value);
        let condition = guard.as_ref().map(|guard| format!(" if {}", self.text(guard))).unwrap_or_default();
        let mut changes = Vec::new();
        if let Pat::Or(or) = &pattern {
            for (at, case) in or.cases.iter().enumerate() {
                let others: Vec<String> = or
                    .cases
                    .iter()
                    .enumerate()
                    .filter(|(other, _)| *other != at)
                    .map(|(_, case)| self.text(case))
                    .collect();
                changes.push(Change::new(
                    format!("alternative {} deleted in matches!({value})", self.text(case)),
                    format!("matches!({value}, {}{condition})", others.join(" | ")),
                ));
            }
        }
        if guard.is_some() {
            changes.push(Change::new(
                format!("guard{condition} → true in matches!({value})"),
                format!("matches!({value}, {})", self.text(&pattern)),
            ));
        }
        let text = self.text(expression);
        changes.push(Change::new(format!("{text} negated"), format!("!{text}")));
        self.offer(expression, changes);
    }
}

fn is_catch_all(arm: &syn::Arm) -> bool {
    let takes_all = match &arm.pat {
        Pat::Wild(_) => true,
        Pat::Ident(name) => name.subpat.is_none() && name.ident.to_string().starts_with(char::is_lowercase),
        _ => false,
    };
    takes_all && arm.guard.is_none()
}
