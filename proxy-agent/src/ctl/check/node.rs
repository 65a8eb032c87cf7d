//! What the node offers: its kernel, the file systems that Sluice lives on, and what its network is set to.

use std::fs;
use std::path::Path;

use super::finding::Finding;
use crate::kernel::preflight::{self, Missing};

/// Where settings of the network are.
const NET: &str = "/proc/sys/net";
const AREA: &str = "kernel";

/// Everything about the node itself.
pub(super) fn findings(bpf_root: &Path, devices: &[String]) -> Vec<Finding> {
    let mut findings = vec![kernel(), types(), capabilities(), bpffs(bpf_root), jit(Path::new(NET))];
    findings.extend(forwarding(Path::new(NET)));
    findings.extend(reverse_path(Path::new(NET), devices));
    findings
}

fn kernel() -> Finding {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    match preflight::kernel() {
        Ok(()) => Finding::ok(AREA, format!("Linux {release}")),
        Err(missing) => refused(&missing, "boot a newer kernel"),
    }
}

fn types() -> Finding {
    if Path::new(preflight::TYPES).exists() {
        Finding::ok(AREA, "it tells its types (BTF)")
    } else {
        refused(&Missing::Btf, "boot a kernel with CONFIG_DEBUG_INFO_BTF")
    }
}

fn capabilities() -> Finding {
    match preflight::capabilities() {
        Ok(()) => Finding::ok(AREA, "this process may do what the agent must"),
        Err(missing) => {
            Finding::warn(AREA, missing.to_string(), "run as root, in the agent's pod or on the node")
        }
    }
}

fn bpffs(root: &Path) -> Finding {
    if preflight::on_bpffs(root) {
        Finding::ok(AREA, format!("{} is on a BPF file system", root.display()))
    } else {
        let next = "mount one (mount -t bpf bpf /sys/fs/bpf), or name the agent's with --bpf-root";
        Finding::fail(AREA, format!("{} is not on a BPF file system", root.display()), next)
    }
}

fn refused(missing: &Missing, next: &str) -> Finding {
    Finding::fail(AREA, missing.to_string(), next)
}

/// A setting below `/proc/sys/net`; `None` where the kernel has none of that name.
fn read(net: &Path, name: &str) -> Option<String> {
    fs::read_to_string(net.join(name)).ok().map(|text| text.trim().to_owned())
}

fn dotted(name: &str) -> String {
    format!("net.{}", name.replace('/', "."))
}

/// Without it programs are interpreted, several times slower, and `proxyctl capture` cannot hang on to them.
fn jit(net: &Path) -> Finding {
    const NAME: &str = "core/bpf_jit_enable";
    match read(net, NAME).as_deref() {
        Some("0") => {
            let found = "programs are interpreted and not compiled: each packet takes several times as long";
            Finding::warn(AREA, found, format!("sysctl -w {}=1", dotted(NAME)))
        }
        Some(_) | None => Finding::ok(AREA, "programs are compiled for this processor"),
    }
}

/// Packets between pods and the network pass the node's routing.
fn forwarding(net: &Path) -> Vec<Finding> {
    let wanted = [("IPv4", "ipv4/ip_forward"), ("IPv6", "ipv6/conf/all/forwarding")];
    let of = |(family, name): (&str, &str)| {
        let finding = match read(net, name)?.as_str() {
            "0" => Finding::warn(
                "sysctl",
                format!(
                    "{} = 0: the node passes no {family} packets on, and pods reach nobody elsewhere",
                    dotted(name)
                ),
                format!("sysctl -w {}=1 where pods have {family} addresses", dotted(name)),
            ),
            value => Finding::ok("sysctl", format!("{} = {value}", dotted(name))),
        };
        Some(finding)
    };
    wanted.into_iter().filter_map(of).collect()
}

/// The kernel takes the stricter of `all` and the device's own.
fn reverse_path(net: &Path, devices: &[String]) -> Vec<Finding> {
    const STRICT: u32 = 1;
    let number = |name: &str| -> Option<u32> { read(net, name)?.parse().ok() };
    let all = number("ipv4/conf/all/rp_filter").unwrap_or(0);
    let is_strict = |device: &&String| {
        number(&format!("ipv4/conf/{device}/rp_filter")).is_some_and(|own| own.max(all) == STRICT)
    };
    let strict: Vec<&str> = devices.iter().filter(is_strict).map(String::as_str).collect();
    let Some(first) = strict.first() else {
        return vec![Finding::ok(
            "sysctl",
            "no device with our programs asks for the strict reverse path (rp_filter)",
        )];
    };
    let found = format!(
        "rp_filter = 1 on {}: an answer that takes another way than its question, or shows a Service's address, is dropped \
         where it goes by the node's routing",
        strict.join(", ")
    );
    let scope = if all == STRICT { "all" } else { first };
    vec![Finding::warn("sysctl", found, format!("sysctl -w net.ipv4.conf.{scope}.rp_filter=2, or 0"))]
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    fn settings(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, value) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{value}\n")).unwrap();
        }
        dir
    }

    #[test]
    fn a_node_that_passes_nothing_on_is_worth_a_look_and_a_missing_family_is_not() {
        let net = settings(&[("ipv4/ip_forward", "0")]);
        let findings = forwarding(net.path());
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].verdict, Verdict::Warn);
        assert_eq!(
            findings[0].next.as_deref(),
            Some("sysctl -w net.ipv4.ip_forward=1 where pods have IPv4 addresses")
        );
        let net = settings(&[("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")]);
        assert!(forwarding(net.path()).iter().all(|finding| finding.verdict == Verdict::Ok));
    }

    #[test]
    fn the_stricter_reverse_path_of_a_device_and_all_counts() {
        let devices = ["eth0".to_owned(), "veth1".to_owned()];
        for (all, eth0, next) in [
            ("0", "1", Some("sysctl -w net.ipv4.conf.eth0.rp_filter=2, or 0")),
            ("1", "0", Some("sysctl -w net.ipv4.conf.all.rp_filter=2, or 0")),
            ("2", "1", None),
            ("1", "2", None),
            ("0", "0", None),
        ] {
            let net = settings(&[("ipv4/conf/all/rp_filter", all), ("ipv4/conf/eth0/rp_filter", eth0)]);
            assert_eq!(reverse_path(net.path(), &devices)[0].next.as_deref(), next, "{all} {eth0}");
        }
    }

    #[test]
    fn interpreted_programs_are_worth_a_look() {
        assert_eq!(jit(settings(&[("core/bpf_jit_enable", "0")]).path()).verdict, Verdict::Warn);
        assert_eq!(jit(settings(&[("core/bpf_jit_enable", "1")]).path()).verdict, Verdict::Ok);
        assert_eq!(jit(settings(&[]).path()).verdict, Verdict::Ok);
    }
}
