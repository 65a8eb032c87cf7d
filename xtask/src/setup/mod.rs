//! `cargo xtask setup`: looks at what building and testing need, and installs or names what is missing.
//!
//! A table of needs ([`needs::NEEDS`]): each looks ([`State`]) and, if it can be helped, says how ([`Remedy`]). Running it
//! twice does nothing the second time; the other verbs call [`ensure`] before they start.

mod compiler;
mod disk;
mod linker;
mod machine;
mod needs;
mod remedy;

use anyhow::{Result, bail};

pub(crate) use machine::INSTALL_DENY;
pub(crate) use remedy::Remedy;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Only report; exit non-zero when something required is missing
    #[arg(long)]
    check: bool,
    /// Only this need
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
}

/// What a look at the machine found.
#[derive(Debug)]
pub(crate) enum State {
    /// Nothing to do.
    Present(String),
    /// Missing: what, and the ways to help, of which the first that applies is taken.
    Missing(String, Remedy),
}

/// How much depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weight {
    /// Nothing works without.
    Required,
    /// The tests that are named do not run without.
    For(&'static str),
}

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Need {
    pub(crate) name: &'static str,
    pub(crate) weight: Weight,
    /// Whether a distribution's packages can help.
    pub(crate) packaged: bool,
    pub(crate) look: fn() -> State,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let mut missing = Vec::new();
    let wanted = |need: &&Need| options.only.as_ref().is_none_or(|only| need.name == only);
    for need in needs::NEEDS.iter().filter(wanted) {
        let state = if options.check { (need.look)() } else { help(need)? };
        report(need, &state);
        if let (Weight::Required, State::Missing(..)) = (need.weight, &state) {
            missing.push(need.name);
        }
    }
    if missing.is_empty() { Ok(()) } else { bail!("missing: {}", missing.join(", ")) }
}

/// The same for the other verbs: silent when nothing is missing. What only some tests need may be missing.
pub(crate) fn ensure() -> Result<()> {
    for need in needs::NEEDS.iter().filter(|need| need.weight == Weight::Required) {
        if let State::Missing(what, remedy) = help(need)? {
            bail!("{} is missing: {what}\n{remedy}", need.name);
        }
    }
    Ok(())
}

/// What one step of the tests cannot do without: silent when it is there.
pub(crate) fn have(name: &str) -> Result<()> {
    for need in needs::NEEDS.iter().filter(|need| need.name == name) {
        if let State::Missing(what, remedy) = help(need)? {
            bail!("{name} is missing: {what}\n{remedy}");
        }
    }
    Ok(())
}

/// Looks, applies the remedy if there is one to apply, and looks again.
fn help(need: &Need) -> Result<State> {
    let mut state = (need.look)();
    if let (Weight::Required, State::Missing(..), true) = (need.weight, &state, need.packaged) {
        // What helps depends on what the package lists offer, and a fresh machine has none.
        remedy::refresh();
        state = (need.look)();
    }
    let State::Missing(what, remedy) = &state else {
        return Ok(state);
    };
    if !remedy.is_automatic() {
        return Ok(state);
    }
    eprintln!("{}: {what}", need.name);
    remedy.apply()?;
    Ok((need.look)())
}

fn report(need: &Need, state: &State) {
    match (state, need.weight) {
        (State::Present(what), _) => println!("ok       {:<14} {what}", need.name),
        (State::Missing(what, remedy), Weight::Required) => {
            println!("MISSING  {:<14} {what}\n{remedy}", need.name);
        }
        (State::Missing(what, remedy), Weight::For(tests)) => {
            println!("absent   {:<14} {what} (only for {tests})\n{remedy}", need.name);
        }
    }
}
