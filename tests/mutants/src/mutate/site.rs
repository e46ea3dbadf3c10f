//! Where a change stands in the file, and how it is switched on.

use std::ops::Range;

use syn::Expr;
use syn::spanned::Spanned;

use super::{Mutator, range};

/// A change, and the text that takes the place of the original.
pub struct Change {
    pub what: String,
    pub text: String,
}

impl Change {
    pub fn new(what: impl Into<String>, text: impl Into<String>) -> Change {
        Change { what: what.into(), text: text.into() }
    }
}

/// Marks the text of a change, so that an error of the compiler can be laid at its door.
pub fn marked(id: u32, text: &str) -> String {
    format!("/*<{id}*/ {text} /*{id}>*/")
}

impl Mutator<'_> {
    /// Puts changes of one expression behind their switches.
    pub fn offer(&mut self, expression: &Expr, changes: Vec<Change>) {
        self.offer_at(expression, range(expression), changes);
    }

    pub fn offer_at(&mut self, at: &impl Spanned, place: Range<usize>, changes: Vec<Change>) {
        let mut arms = String::new();
        for Change { what, text } in changes {
            if let Some(id) = self.add(at, what) {
                arms.push_str(&format!("if crate::mutant::is({id}) {{ {} }} else ", marked(id, &text)));
            }
        }
        if arms.is_empty() {
            return;
        }
        let inner = place.clone();
        self.source.wrap(place, Box::new(move |render| format!("({arms}{{ {} }})", render(inner.clone()))));
    }
}
