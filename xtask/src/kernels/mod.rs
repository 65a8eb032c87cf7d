//! `cargo xtask kernels`: loads all programs in kernels of other releases, runs the packet tests and a few cases of the lab
//! there, and holds the instructions that each verifier looks at against a budget.
//!
//! The kernels are those that the distribution's packages offer, in an emulated machine that sees the host's files
//! ([`machine`]). Nothing is installed and nothing on the host changes but `target/kernels`.

mod archive;
mod budget;
pub(crate) mod machine;
pub(crate) mod package;
mod step;
mod table;

use std::{fs, path::Path, thread, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{child, setup, test::count::Count};
use budget::Budget;
use package::Kernel;
use step::{Outcome, Programs, STEPS, Step};
use table::Column;

/// The oldest that Sluice supports, and the next one with long support.
const SERIES: &[&str] = &["6.1", "6.12"];
/// How long a kernel may take: the processor is emulated, and other work may go on beside it.
const LIMIT: Duration = Duration::from_secs(90 * 60);

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Only these kernels, as `6.1`
    series: Vec<String>,
    /// Only this step: load, smoke, sctp, capture, packets or ipvs, which is no test and only done if asked for; may be repeated
    #[arg(long, value_name = "STEP")]
    step: Vec<String>,
    /// Write the instructions that were measured into the budget
    #[arg(long)]
    bless: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    setup::ensure()?;
    setup::have("emulator")?;
    let steps: Vec<&Step> = STEPS.iter().filter(|step| is_chosen(step, options)).collect();
    ensure!(
        !steps.is_empty(),
        "no such step; there are {}",
        STEPS.iter().map(|step| step.name).collect::<Vec<_>>().join(", ")
    );
    let programs = Programs::build(&steps)?;
    let room = child::root().join("target/kernels");
    let mut kernels = Vec::new();
    for series in chosen(&options.series) {
        let Some(release) = package::newest(&series) else {
            bail!("apt offers no package linux-image-{series}.*; run apt-get update, or leave {series} out");
        };
        kernels.push(Kernel::fetch(&series, &release, &room)?);
    }
    let columns = visit_all(&kernels, &programs, &steps, &room)?;
    table::print(&columns, &steps);
    let mut budget = Budget::read()?;
    if options.bless {
        for column in &columns {
            budget.renew(&column.series, &column.programs);
        }
        budget.write()?;
    }
    let exceeded: Vec<String> =
        columns.iter().flat_map(|column| budget.exceeded(&column.series, &column.programs)).collect();
    let total: Count = columns.iter().map(Column::count).sum();
    let total = Count { failed: total.failed + exceeded.len() as u64, ..total };
    for line in &exceeded {
        println!("over budget: {line}");
    }
    println!("{total}");
    ensure!(total.failed == 0, "not all is well on every kernel");
    Ok(())
}

fn is_chosen(step: &Step, options: &Options) -> bool {
    if options.step.is_empty() {
        return step.is_usual();
    }
    options.step.iter().any(|name| name == step.name)
}

fn chosen(series: &[String]) -> Vec<String> {
    match series {
        [] => SERIES.iter().map(ToString::to_string).collect(),
        some => some.to_vec(),
    }
}

/// Each machine has one processor and its own clock, so they need not wait for each other.
fn visit_all(kernels: &[Kernel], programs: &Programs, steps: &[&Step], room: &Path) -> Result<Vec<Column>> {
    thread::scope(|scope| {
        let visits: Vec<_> =
            kernels.iter().map(|kernel| scope.spawn(move || visit(kernel, programs, steps, room))).collect();
        let join = |visit: thread::ScopedJoinHandle<'_, Result<Column>>| {
            visit.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        visits.into_iter().map(join).collect()
    })
}

/// Boots one kernel and reads what its steps left.
fn visit(kernel: &Kernel, programs: &Programs, steps: &[&Step], room: &Path) -> Result<Column> {
    let out = room.join("out").join(&kernel.series);
    if out.exists() {
        fs::remove_dir_all(&out).with_context(|| format!("cannot empty {}", out.display()))?;
    }
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let version =
        numbers(&kernel.series).with_context(|| format!("{} is no kernel series", kernel.series))?;
    let job = programs.job(steps, version, "/mnt/kernels");
    println!("Linux {}: results in {}", kernel.release, out.display());
    let mut told = 0;
    let mut tell = || {
        while let Some(step) = steps.get(told)
            && let Some(outcome) = step::outcome(step, &out)
        {
            println!("  {} · {}: {outcome}", kernel.series, step.name);
            told += 1;
        }
    };
    let ran = machine::run(kernel, &job, &out, LIMIT, &mut tell);
    // The machine may be off before anybody has looked.
    tell();
    if let Err(error) = ran {
        println!("  {}: {error:#}", kernel.series);
    }
    let mut column = Column::new(kernel, version);
    for step in steps {
        let outcome = step::outcome(step, &out).unwrap_or_else(|| Outcome::Failed("did not end".to_owned()));
        let text = step::printed(step, &out);
        if let Outcome::Failed(_) = outcome {
            table::print_failure(kernel, step, &text);
        }
        match step.what {
            step::What::Load => column.programs = step::loaded(&text),
            step::What::Contest => println!("{text}"),
            step::What::Tests(..) | step::What::Cases(_) => {}
        }
        column.steps.push((step.name, outcome));
    }
    Ok(column)
}

/// `6.12` as numbers.
fn numbers(series: &str) -> Option<(u32, u32)> {
    let (major, minor) = series.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
