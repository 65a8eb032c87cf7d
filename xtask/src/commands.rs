//! The commands that README and the installation guide tell people to type: each is run by a step of the tests, or says
//! here why it cannot be.

use std::{fs, process::Command};

use clap::Parser as _;

use crate::{Verb, child, test};

/// Documents whose commands are promises.
const PAGES: [&str; 2] = ["README.md", "docs/install.md"];

/// What is known of a command.
enum Proof {
    /// A step of `cargo xtask test` runs it.
    Step(&'static str),
    /// It is the run that this test is part of.
    Itself,
    /// It cannot be run by a test, and what is tested in its place.
    Instead(&'static str),
}

use Proof::{Instead, Itself, Step};

/// Beginnings of commands. The first that fits counts.
const KNOWN: &[(&str, Proof)] = &[
    ("cargo xtask test", Itself),
    ("cargo xtask demo", Step("demo")),
    (
        "cargo xtask image",
        Instead("two release builds take too long for each change; its layout has unit tests"),
    ),
    (
        "deploy/kind/up.sh",
        Instead(
            "needs a container engine; its syntax is checked below, its manifests by the step `manifests`",
        ),
    ),
    ("proxy-agent cleanup", Step("life")),
    ("proxy-agent run", Step("life")),
    ("proxyctl ", Step("life")),
    ("skopeo ", Instead("needs a registry")),
    ("kubeadm ", Instead("makes a cluster of the host that it runs on")),
    (
        "helm install ",
        Instead(
            "the chart is rendered by Helm's engine in the step `manifests`, and the API server takes it in `deployment`",
        ),
    ),
    (
        "kubectl ",
        Instead("needs a cluster that somebody has; the manifests are applied in the step `deployment`"),
    ),
    ("cp -r deploy/kustomize/own-cluster", Instead("what it copies is rendered in the step `manifests`")),
    ("curl -s http://NODE:10256/healthz", Step("life")),
];

/// The commands of a page's console blocks, without prompts and comments, continued lines joined.
fn commands(text: &str) -> Vec<String> {
    let blocks = text.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next());
    let joined = blocks.map(|block| block.replace("\\\n", " "));
    let of_block = |block: String| -> Vec<String> {
        let lines =
            block.lines().filter_map(|line| line.strip_prefix("$ ").or_else(|| line.strip_prefix("# ")));
        lines
            .map(|line| {
                line.split(" # ")
                    .next()
                    .unwrap_or(line)
                    .split("   #")
                    .next()
                    .unwrap_or(line)
                    .trim()
                    .to_owned()
            })
            .collect()
    };
    joined.flat_map(of_block).collect()
}

fn all() -> Vec<(&'static str, String)> {
    let of_page = |page: &'static str| {
        let text = fs::read_to_string(child::root().join(page)).expect("a page");
        commands(&text).into_iter().map(move |command| (page, command))
    };
    PAGES.into_iter().flat_map(of_page).collect()
}

#[test]
fn every_command_that_people_are_told_to_type_is_run_by_a_step_or_says_why_not() {
    let mut used = vec![false; KNOWN.len()];
    for (page, command) in all() {
        let found = KNOWN.iter().position(|(beginning, _)| command.starts_with(beginning));
        let place = found.unwrap_or_else(|| panic!("{page}: nobody runs `{command}`, and nothing says why"));
        used[place] = true;
        match KNOWN[place].1 {
            Step(step) => assert!(test::has_step(step), "{command}: there is no step {step}"),
            Itself => {}
            Instead(why) => assert!(!why.is_empty()),
        }
    }
    let unused: Vec<&str> =
        KNOWN.iter().zip(used).filter(|(_, used)| !used).map(|((known, _), _)| *known).collect();
    assert_eq!(unused, [""; 0], "no page tells anybody to type that");
}

/// A verb or flag that was renamed is found where it is promised.
#[test]
fn every_verb_of_xtask_in_a_page_is_one() {
    let mut tried = 0;
    for (page, command) in all() {
        if let Some(words) = command.strip_prefix("cargo xtask ") {
            let words = std::iter::once("xtask").chain(words.split_whitespace());
            assert!(Verb::try_parse_from(words).is_ok(), "{page}: {command}");
            tried += 1;
        }
    }
    assert!(tried >= 5, "{tried}");
}

#[test]
fn scripts_that_people_are_told_to_run_are_there_and_can_be_read_by_a_shell() {
    let script = child::root().join("deploy/kind/up.sh");
    let read = Command::new("bash").arg("-n").arg(script).status().expect("a shell");
    assert!(read.success());
}
