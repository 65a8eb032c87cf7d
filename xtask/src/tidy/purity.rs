//! The pure crates stay pure: no cluster client, no kernel, no runtime, no clock, no chance.
//!
//! Time is an argument `now` there, and output depends on the state alone. Their `Cargo.toml` already keeps most of
//! this out; `std` cannot be kept out that way.

use syn::{Path as SynPath, UseTree, spanned::Spanned as _, visit::Visit};

use super::{Breach, Source};

const PURE: &[&str] = &["proxy-model/src", "proxy-common/src"];
/// First segments of a path.
const ROOMS: &[&str] = &["aya", "aya_obj", "k8s_openapi", "kube", "rand", "tokio"];
/// Last two segments of a path.
const CALLS: &[[&str; 2]] =
    &[["Instant", "now"], ["SystemTime", "now"], ["thread", "sleep"], ["thread", "spawn"]];
/// First two segments of a path.
const STD: &[[&str; 2]] = &[["std", "env"], ["std", "fs"], ["std", "io"], ["std", "process"]];

pub(super) fn check(source: &Source<'_>, file: &syn::File) -> Vec<Breach> {
    if !PURE.iter().any(|room| source.path.starts_with(room)) {
        return Vec::new();
    }
    let mut visitor = Paths { source, breaches: Vec::new() };
    visitor.visit_file(file);
    visitor.breaches
}

struct Paths<'a> {
    source: &'a Source<'a>,
    breaches: Vec<Breach>,
}

impl Paths<'_> {
    fn judge(&mut self, line: usize, segments: &[String]) {
        let pair =
            |pair: &[String], list: &[[&str; 2]]| list.iter().any(|[a, b]| pair[0] == *a && pair[1] == *b);
        let room = segments.first().is_some_and(|first| ROOMS.contains(&first.as_str()));
        let call = segments.windows(2).next_back().is_some_and(|last| pair(last, CALLS));
        let std = segments.windows(2).next().is_some_and(|first| pair(first, STD));
        if room || call || std {
            let path = segments.join("::");
            self.breaches.push(
                self.source.breach(line, format!("`{path}` in a pure crate: hand it in as an argument")),
            );
        }
    }

    fn tree(&mut self, before: &mut Vec<String>, tree: &UseTree) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.tree(before, &path.tree);
                before.pop();
            }
            UseTree::Group(group) => group.items.iter().for_each(|item| self.tree(before, item)),
            UseTree::Name(name) => self.leaf(before, &name.ident),
            UseTree::Rename(name) => self.leaf(before, &name.ident),
            UseTree::Glob(glob) => self.judge(glob.span().start().line, before),
        }
    }

    fn leaf(&mut self, before: &mut Vec<String>, name: &syn::Ident) {
        before.push(name.to_string());
        self.judge(name.span().start().line, before);
        before.pop();
    }
}

impl<'ast> Visit<'ast> for Paths<'_> {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.tree(&mut Vec::new(), &item.tree);
    }

    fn visit_path(&mut self, path: &'ast SynPath) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.judge(path.span().start().line, &segments);
        syn::visit::visit_path(self, path);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        let file = syn::parse_file(text).expect("the sample is Rust");
        check(&Source { path: Path::new(path), text }, &file).iter().map(|breach| breach.line).collect()
    }

    const IMPURE: &str =
        "use std::{collections::BTreeMap, fs};\nuse kube::Client;\nfn f() { std::time::Instant::now(); }\n";

    #[test]
    fn a_pure_crate_may_not_read_files_talk_to_a_cluster_or_ask_the_clock() {
        assert_eq!(lines("proxy-model/src/a.rs", IMPURE), [1, 2, 3]);
    }

    #[test]
    fn other_crates_and_pure_paths_are_left_alone() {
        assert_eq!(lines("proxy-agent/src/a.rs", IMPURE), Vec::<usize>::new());
        let pure =
            "use std::{collections::BTreeMap, net::IpAddr};\nfn f(now: u64) { crate::io::read(now) }\n";
        assert_eq!(lines("proxy-common/src/a.rs", pure), Vec::<usize>::new());
    }
}
