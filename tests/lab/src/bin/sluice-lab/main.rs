//! `sluice-lab`: the verbs `lab`, `fixtures` and `demo` of the workshop. Only arguments and what is printed; the work is the library's.

mod demo;
mod fixtures;
mod lab;

use std::process::ExitCode;

use clap::Parser;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
enum Verb {
    /// Nodes, pods and outside clients as network namespaces
    #[command(subcommand)]
    Lab(lab::Verb),
    /// The main job of Sluice on one machine: two nodes, a Service, both roads
    Demo(demo::Options),
    /// Play fixture cases in labs, through real agents
    Fixtures(fixtures::Options),
}

fn main() -> ExitCode {
    let result = match Verb::parse() {
        Verb::Lab(verb) => lab::run(verb),
        Verb::Demo(options) => demo::run(&options),
        Verb::Fixtures(options) => fixtures::run(&options),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
