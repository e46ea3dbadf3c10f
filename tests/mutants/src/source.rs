//! A source file whose ranges are wrapped: every wrapper sees the text of its range with all that is wrapped inside.

use std::cell::RefCell;
use std::ops::Range;

/// Text for a range, given what renders any range inside it.
pub type Wrap = Box<dyn Fn(&dyn Fn(Range<usize>) -> String) -> String>;

struct Node {
    range: Range<usize>,
    wrap: Wrap,
    children: Vec<Node>,
}

/// The text of one file and what is wrapped in it.
pub struct Source {
    pub text: String,
    roots: RefCell<Vec<Node>>,
}

impl Source {
    pub fn new(text: String) -> Source {
        Source { text, roots: RefCell::default() }
    }

    pub fn original(&self, range: Range<usize>) -> String {
        self.text[range].to_string()
    }

    /// Wraps `range`. Ranges nest or are apart; of two wrappers of one range the later one is inside.
    pub fn wrap(&self, range: Range<usize>, wrap: Wrap) {
        put(&mut self.roots.borrow_mut(), Node { range, wrap, children: Vec::new() });
    }

    pub fn render(&self) -> String {
        render(&self.text, 0..self.text.len(), &self.roots.borrow())
    }
}

fn put(siblings: &mut Vec<Node>, mut node: Node) {
    let holder = siblings
        .iter_mut()
        .find(|other| other.range.start <= node.range.start && node.range.end <= other.range.end);
    if let Some(holder) = holder {
        return put(&mut holder.children, node);
    }
    let (inside, outside): (Vec<Node>, Vec<Node>) = siblings
        .drain(..)
        .partition(|other| node.range.start <= other.range.start && other.range.end <= node.range.end);
    node.children = inside;
    *siblings = outside;
    siblings.push(node);
    siblings.sort_by_key(|other| other.range.start);
}

fn render(text: &str, range: Range<usize>, nodes: &[Node]) -> String {
    let (mut out, mut at) = (String::new(), range.start);
    for node in nodes.iter().filter(|node| range.start <= node.range.start && node.range.end <= range.end) {
        out.push_str(&text[at..node.range.start]);
        // A wrapper whose own range is requested means what is inside it.
        out.push_str(&(node.wrap)(&|inner| render_within(text, inner, &node.children)));
        at = node.range.end;
    }
    out.push_str(&text[at..range.end]);
    out
}

/// The range may lie deep inside one of the nodes.
fn render_within(text: &str, range: Range<usize>, nodes: &[Node]) -> String {
    let deeper = nodes.iter().find(|node| {
        let holds = node.range.start <= range.start && range.end <= node.range.end;
        holds && node.range != range
    });
    match deeper {
        Some(node) => render_within(text, range, &node.children),
        None => render(text, range, nodes),
    }
}
