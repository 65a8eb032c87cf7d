//! `proxyctl bugreport`: what somebody needs who is to find out from afar what is wrong, in one archive. What could be secret is
//! left out or crossed out, and a list in the archive says what. Each part that cannot be had says so in its place.

mod parts;
mod redact;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use clap::Args;
use flate2::{Compression, write::GzEncoder};

use self::redact::Redactor;

/// What `proxyctl bugreport` puts where.
#[derive(Args, Debug, Clone)]
pub struct BugreportArgs {
    /// The archive; `-` is standard output. Without it one in this directory, named after the time
    #[arg(short, long, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// Puts a number in the place of each address, the same for the same address
    #[arg(long)]
    pub redact_addresses: bool,
    /// Where the agent serves its metrics and its configuration
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:10249")]
    pub metrics: std::net::SocketAddr,
}

/// A file of the archive.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Part {
    name: &'static str,
    text: String,
}

/// Writes the archive and says where it is.
pub(super) fn run(bpf_root: &Path, args: &BugreportArgs) -> anyhow::Result<String> {
    let now = SystemTime::now();
    let parts = finished(parts::collect(bpf_root, args.metrics), args);
    let stamp = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let folder = format!("sluice-bugreport-{stamp}");
    let path = args.write.clone().unwrap_or_else(|| PathBuf::from(format!("{folder}.tar.gz")));
    if path.as_os_str() == "-" {
        archive(io::stdout().lock(), &folder, stamp, &parts).context("standard output")?;
        return Ok(String::new());
    }
    let failed = || format!("{} cannot be written; name another place with --write", path.display());
    let file = fs::File::create(&path).with_context(failed)?;
    archive(file, &folder, stamp, &parts).with_context(failed)?;
    let hidden =
        if args.redact_addresses { "" } else { "; addresses are in it, unless --redact-addresses is given" };
    Ok(format!(
        "{} has {} files; see its README before you hand it on{hidden}\n",
        path.display(),
        parts.len()
    ))
}

/// The parts as they may be handed on, and what was done to them in front.
fn finished(parts: Vec<Part>, args: &BugreportArgs) -> Vec<Part> {
    let mut redactor = Redactor::default();
    let mut done: Vec<Part> = parts
        .into_iter()
        .map(|Part { name, text }| {
            let text = redactor.secrets(&text);
            Part { name, text: if args.redact_addresses { redactor.addresses(&text) } else { text } }
        })
        .collect();
    let names: Vec<_> = done.iter().map(|part| part.name).collect();
    let addresses = match args.redact_addresses {
        true => format!("{} addresses have become address-N", redactor.count()),
        false => "addresses are as they are".to_owned(),
    };
    let text = format!(
        "What proxyctl {} found on this node.\n\nFiles: {}\n\nRedacted: fields whose names speak of tokens, passwords, keys, secrets and \
         certificates; {addresses}. Names of namespaces, Services, policies, pods and nodes are in it. Left out: the content of \
         the maps beside what the lists show, objects of the cluster, and logs.\n\nLogs: kubectl -n kube-system logs daemonset/sluice \
         --all-containers --since=1h; on the node: dmesg | grep -i bpf\n",
        env!("CARGO_PKG_VERSION"),
        names.join(" "),
    );
    done.insert(0, Part { name: "README.txt", text });
    done
}

fn archive(out: impl Write, folder: &str, time: u64, parts: &[Part]) -> io::Result<()> {
    let mut archive = tar::Builder::new(GzEncoder::new(out, Compression::default()));
    for Part { name, text } in parts {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(time);
        archive.append_data(&mut header, format!("{folder}/{name}"), text.as_bytes())?;
    }
    archive.into_inner()?.finish()?.flush()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn the_archive_holds_each_part_and_says_what_is_hidden() {
        let args =
            BugreportArgs { write: None, redact_addresses: true, metrics: "127.0.0.1:1".parse().unwrap() };
        let part = |name, text: &str| Part { name, text: text.into() };
        let parts = finished(
            vec![
                part("a.json", "{\"token\": \"abc\", \"at\": \"10.1.2.3:80\"}"),
                part("b.txt", "10.1.2.3 again"),
            ],
            &args,
        );
        let mut bytes = Vec::new();
        archive(&mut bytes, "folder", 7, &parts).unwrap();
        let mut found = Vec::new();
        for entry in tar::Archive::new(flate2::read::GzDecoder::new(bytes.as_slice())).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            found.push((entry.path().unwrap().display().to_string(), text));
        }
        assert_eq!(
            found[1],
            ("folder/a.json".to_owned(), "{\"token\": \"REDACTED\", \"at\": \"address-1:80\"}".to_owned())
        );
        assert_eq!(found[2], ("folder/b.txt".to_owned(), "address-1 again".to_owned()));
        assert_eq!(found[0].0, "folder/README.txt");
        assert!(
            found[0].1.contains("1 addresses have become address-N") && found[0].1.contains("a.json b.txt")
        );
    }
}
