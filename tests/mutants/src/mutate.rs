//! Finds what can be changed in a file, and puts each change behind a switch: `crate::mutant::is(ID)`.
//!
//! Left alone: constants, patterns, attributes, test code, and what stands inside macros other than `matches!`.

mod changes;
mod site;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Range;

use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Arm, Expr, File, ImplItemFn, Item, ItemFn, Local, Pat, Signature, Stmt};

use crate::source::Source;

/// One change of the code.
#[derive(Clone, Debug)]
pub struct Mutant {
    pub id: u32,
    pub file: String,
    pub line: usize,
    pub function: String,
    /// What is changed into what.
    pub change: String,
}

impl Mutant {
    /// Names the change whatever its line is.
    pub fn key(&self) -> String {
        format!("{} | {} | {}", self.file, self.function, self.change)
    }
}

/// What the changes need to know of the whole crate, and which are not to be made.
pub struct Terms {
    /// Name of each enum, the file that defines it, and its variants without fields, in order.
    pub enums: Vec<(String, String, Vec<String>)>,
    /// Keys of changes that do not compile, with the number of each among equals.
    pub unviable: HashSet<String>,
    /// Functions that must stay `const`.
    pub constant: BTreeSet<String>,
}

impl Terms {
    /// Reads the enums of one file.
    pub fn learn(&mut self, name: &str, file: &File) {
        struct Enums<'a>(&'a str, &'a mut Vec<(String, String, Vec<String>)>);
        impl<'ast> Visit<'ast> for Enums<'_> {
            // An enum that a macro defines in the language's own form.
            fn visit_item_macro(&mut self, item: &'ast syn::ItemMacro) {
                if let Ok(inner) = syn::parse2::<syn::ItemEnum>(item.mac.tokens.clone()) {
                    self.visit_item_enum(&inner);
                }
            }

            fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
                let unit = item.variants.iter().filter(|variant| variant.fields.is_empty());
                let names = unit.map(|variant| variant.ident.to_string()).collect();
                self.1.push((item.ident.to_string(), self.0.to_string(), names));
            }
        }
        Enums(name, &mut self.enums).visit_file(file);
    }

    /// The variant after `name` in enum `holder`; of enums with the same name the one defined closest to `file`.
    fn other_variant(&self, file: &str, holder: &str, name: &str) -> Option<String> {
        let shared = |other: &str| file.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
        let has = |variants: &[String]| variants.iter().any(|variant| variant == name);
        let named = self.enums.iter().filter(|(of, _, variants)| of == holder && has(variants));
        let (_, _, variants) = named.max_by_key(|(_, other, _)| shared(other))?;
        let at = variants.iter().position(|variant| variant == name)?;
        let other = &variants[(at + 1) % variants.len()];
        (other != name).then(|| other.clone())
    }
}

pub struct Mutator<'a> {
    terms: &'a Terms,
    source: &'a Source,
    file: String,
    functions: Vec<String>,
    /// Variants that a `use` inside a function names, with their enum.
    imported: BTreeMap<String, String>,
    returns: Vec<Option<syn::Type>>,
    /// How often a key has come, so that equal changes of one function are distinguished.
    seen: BTreeMap<String, usize>,
    next: u32,
    mutants: Vec<Mutant>,
}

/// All changes of `source`, which renders with them afterwards; ids begin at `first`.
pub fn mutate(source: &Source, file: &str, first: u32, terms: &Terms) -> Result<Vec<Mutant>, syn::Error> {
    let syntax = syn::parse_file(&source.text)?;
    let mut mutator = Mutator {
        terms,
        source,
        file: file.to_string(),
        functions: Vec::new(),
        imported: BTreeMap::new(),
        returns: Vec::new(),
        seen: BTreeMap::new(),
        next: first,
        mutants: Vec::new(),
    };
    mutator.visit_file(&syntax);
    Ok(mutator.mutants)
}

fn range(node: &impl Spanned) -> Range<usize> {
    node.span().byte_range()
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let is_cfg_test = attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"));
        is_cfg_test || attribute.path().is_ident("test")
    })
}

impl Mutator<'_> {
    fn text(&self, node: &impl Spanned) -> String {
        self.source.original(range(node))
    }

    /// A number for a change, unless it is known not to compile.
    fn add(&mut self, at: &impl Spanned, change: String) -> Option<u32> {
        let one_line = change.split_whitespace().collect::<Vec<_>>().join(" ");
        let function = self.functions.join("::");
        let mut key = format!("{} | {function} | {one_line}", self.file);
        let seen = self.seen.entry(key.clone()).or_default();
        *seen += 1;
        let mut change = one_line;
        if *seen > 1 {
            change = format!("{change} #{seen}");
            key = format!("{} | {function} | {change}", self.file);
        }
        if self.terms.unviable.contains(&key) {
            return None;
        }
        let id = self.next;
        self.next += 1;
        let line = at.span().start().line;
        self.mutants.push(Mutant { id, file: self.file.clone(), line, function, change });
        Some(id)
    }

    fn visit_function(&mut self, signature: &Signature, body: &syn::Block) {
        let name = signature.ident.to_string();
        let is_constant = signature.constness.is_some();
        if is_constant {
            if self.terms.constant.contains(&name) {
                return;
            }
            self.source.wrap(range(&signature.constness), Box::new(|_| String::new()));
        }
        self.functions.push(name);
        self.returns.push(match &signature.output {
            syn::ReturnType::Default => None,
            syn::ReturnType::Type(_, of) => Some((**of).clone()),
        });
        self.replace_body(signature, body);
        self.visit_block(body);
        self.returns.pop();
        self.functions.pop();
    }
}

impl<'ast> Visit<'ast> for Mutator<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        match item {
            Item::Use(item) if !self.functions.is_empty() => self.import(&item.tree, ""),
            Item::Const(_) | Item::Static(_) | Item::Enum(_) | Item::Struct(_) | Item::Macro(_) => {}
            Item::Mod(module) if is_test(&module.attrs) => {}
            _ => visit::visit_item(self, item),
        }
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        // How a value prints for developers is no contract.
        let is_debug = item
            .trait_
            .as_ref()
            .is_some_and(|(_, path, _)| path.segments.last().is_some_and(|segment| segment.ident == "Debug"));
        if !is_debug && !is_test(&item.attrs) {
            visit::visit_item_impl(self, item);
        }
    }

    fn visit_impl_item_const(&mut self, _: &'ast syn::ImplItemConst) {}
    fn visit_trait_item_const(&mut self, _: &'ast syn::TraitItemConst) {}
    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}
    fn visit_type(&mut self, _: &'ast syn::Type) {}
    fn visit_pat(&mut self, _: &'ast Pat) {}
    fn visit_generic_argument(&mut self, _: &'ast syn::GenericArgument) {}

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        if !is_test(&item.attrs) {
            self.visit_function(&item.sig, &item.block);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        if !is_test(&item.attrs) {
            self.visit_function(&item.sig, &item.block);
        }
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(body) = &item.default {
            self.visit_function(&item.sig, body);
        }
    }

    fn visit_stmt(&mut self, statement: &'ast Stmt) {
        self.delete_statement(statement);
        visit::visit_stmt(self, statement);
    }

    fn visit_local(&mut self, local: &'ast Local) {
        self.force_flag(local);
        visit::visit_local(self, local);
    }

    fn visit_arm(&mut self, arm: &'ast Arm) {
        visit::visit_arm(self, arm);
    }

    fn visit_expr(&mut self, expression: &'ast Expr) {
        self.change_expression(expression);
        match expression {
            // The length of an array is a constant.
            Expr::Repeat(repeat) => self.visit_expr(&repeat.expr),
            Expr::Const(_) => {}
            Expr::Macro(_) => {}
            Expr::Call(call) => {
                // Not the path that is called.
                if !matches!(*call.func, Expr::Path(_)) {
                    self.visit_expr(&call.func);
                }
                call.args.iter().for_each(|argument| self.visit_expr(argument));
            }
            Expr::Assign(assign) => {
                self.visit_place(&assign.left);
                self.visit_expr(&assign.right);
            }
            Expr::Binary(binary) if changes::is_assignment(&binary.op) => {
                self.visit_place(&binary.left);
                self.visit_expr(&binary.right);
            }
            Expr::Reference(reference) if reference.mutability.is_some() => self.visit_place(&reference.expr),
            _ => visit::visit_expr(self, expression),
        }
    }
}

impl Mutator<'_> {
    fn import(&mut self, tree: &syn::UseTree, holder: &str) {
        match tree {
            syn::UseTree::Path(path) => self.import(&path.tree, &path.ident.to_string()),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.import(tree, holder)),
            syn::UseTree::Name(name) => {
                self.imported.insert(name.ident.to_string(), holder.to_string());
            }
            _ => {}
        }
    }

    /// What is assigned to stays a place; its indices are expressions.
    fn visit_place(&mut self, place: &Expr) {
        match place {
            Expr::Index(index) => {
                self.visit_place(&index.expr);
                self.visit_expr(&index.index);
            }
            Expr::Field(field) => self.visit_place(&field.base),
            Expr::Unary(unary) => self.visit_place(&unary.expr),
            Expr::Paren(paren) => self.visit_place(&paren.expr),
            Expr::Path(_) => {}
            Expr::MethodCall(_) | Expr::Call(_) => self.visit_expr(place),
            _ => {}
        }
    }
}
