//! `proxyctl report`: everything about this node as one HTML file that needs no network: for an incident's notes, or for
//! somebody who has no shell on the node. What is read is in `gather`, who may talk to whom in `matrix`; how it looks
//! is a function of the values alone, in `render`.

mod course;
mod gather;
mod html;
mod matrix;
mod memory;
mod page;
mod render;
#[cfg(test)]
mod tests;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use clap::Args;

use super::output::{Format, Page};
use super::reader::Reader;
use page::ReportPage;

/// What `proxyctl report` is asked.
#[derive(Args, Debug, Clone)]
pub struct ReportArgs {
    /// Where to; without it, and for `-`, the standard output
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Watch for so long what is lost, and draw it, from one second to an hour
    #[arg(long = "for", value_name = "DURATION", value_parser = course::length)]
    length: Option<Duration>,
}

impl Page for ReportPage {
    fn text(&self) -> String {
        render::page(self)
    }
}

/// Makes a report and writes it where it was asked for; gives what remains to be printed.
pub(super) fn run(reader: &Reader, args: &ReportArgs, format: Format) -> anyhow::Result<String> {
    let course = args.length.map(|length| {
        eprintln!("proxyctl: watching for {}", humantime::format_duration(length));
        course::watch(length, || Ok(reader.pinned.counters()?))
    });
    let page = gather::read(reader, SystemTime::now(), course.transpose()?)?;
    let text = format.one(&page)?;
    match args.file.as_deref().filter(|file| *file != Path::new("-")) {
        None => Ok(text),
        Some(file) => {
            write(file, &text)
                .with_context(|| format!("the report cannot be written to {}", file.display()))?;
            Ok(format!(
                "{}: {} Services, {} KiB\n",
                file.display(),
                page.services(),
                text.len().div_ceil(1024)
            ))
        }
    }
}

/// Names and addresses of a cluster are its operator's: nobody else may read the file.
fn write(file: &Path, text: &str) -> std::io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).open(file)?.write_all(text.as_bytes())
}
