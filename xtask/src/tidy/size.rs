//! Lengths of files and functions, and the opening `//!` of a file.
//!
//! A comment `// tidy: long because …` at the top of a file or in (or right above) a function is a reason that a
//! reader can judge; it lifts the limit for that file or function.

use proc_macro2::Span;
use syn::{ImplItemFn, ItemFn, TraitItemFn, spanned::Spanned as _, visit::Visit};

use super::{Breach, Source};

const FILE: usize = 400;
const FUNCTION: usize = 60;
/// Where a file's reason must stand, in lines.
const TOP: usize = 30;
const REASON: &str = concat!("tidy: ", "long because ");

pub(super) fn check(source: &Source<'_>, file: &syn::File) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let first = source.text.lines().find(|line| !line.starts_with("#!") && !line.trim().is_empty());
    if !first.is_some_and(|line| line.starts_with("//!")) {
        breaches.push(source.breach(1, "does not begin with //! and what the file is for"));
    }
    let lines: Vec<&str> = source.text.lines().collect();
    if lines.len() > FILE && !excused(&lines[..TOP]) {
        breaches.push(source.breach(1, format!("{} lines, at most {FILE}", lines.len())));
    }
    let mut visitor = Functions { source, lines: &lines, breaches };
    visitor.visit_file(file);
    visitor.breaches
}

fn excused(lines: &[&str]) -> bool {
    lines.iter().any(|line| line.contains(REASON))
}

struct Functions<'a> {
    source: &'a Source<'a>,
    lines: &'a [&'a str],
    breaches: Vec<Breach>,
}

impl Functions<'_> {
    /// From the signature to the closing brace, both counted.
    fn measure(&mut self, name: &syn::Ident, signature: Span, body: Span) {
        let (start, end) = (signature.start().line, body.end().line);
        let length = end + 1 - start;
        // The line above counts as a place for the reason.
        if length > FUNCTION && !excused(&self.lines[start.saturating_sub(2)..end]) {
            self.breaches
                .push(self.source.breach(start, format!("{name} has {length} lines, at most {FUNCTION}")));
        }
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        self.measure(&item.sig.ident, item.sig.span(), item.block.span());
        syn::visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.measure(&item.sig.ident, item.sig.span(), item.block.span());
        syn::visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast TraitItemFn) {
        if let Some(block) = &item.default {
            self.measure(&item.sig.ident, item.sig.span(), block.span());
        }
        syn::visit::visit_trait_item_fn(self, item);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn breaches(text: &str) -> Vec<String> {
        let source = Source { path: Path::new("a.rs"), text };
        let file = syn::parse_file(text).expect("the sample is Rust");
        check(&source, &file).iter().map(ToString::to_string).collect()
    }

    fn function(lines: usize, inside: &str) -> String {
        format!("//! Sample.\n\nfn f() {{\n{inside}\n{}}}\n", "    g();\n".repeat(lines - 3))
    }

    #[test]
    fn a_function_of_sixty_lines_passes_and_one_of_sixty_one_does_not() {
        assert_eq!(breaches(&function(60, "")), Vec::<String>::new());
        assert_eq!(breaches(&function(61, "")), ["a.rs:3: f has 61 lines, at most 60"]);
    }

    #[test]
    fn a_reason_lifts_the_limit_of_the_function_it_stands_in() {
        let reason = format!("    // {REASON}it is a table");
        assert_eq!(breaches(&function(61, &reason)), Vec::<String>::new());
    }

    #[test]
    fn a_long_file_needs_its_reason_at_the_top() {
        let long = |top: &str| format!("//! Sample.\n{top}\n{}", "\n".repeat(FILE));
        assert_eq!(breaches(&long("")), ["a.rs:1: 402 lines, at most 400"]);
        assert_eq!(breaches(&long(&format!("// {REASON}it is a list"))), Vec::<String>::new());
    }

    #[test]
    fn a_file_says_first_what_it_is_for() {
        assert_eq!(breaches("fn f() {}\n"), ["a.rs:1: does not begin with //! and what the file is for"]);
    }
}
