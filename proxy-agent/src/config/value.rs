//! Values of flags and of the file: each is checked once, and a complaint names the place where it stands.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::Uri;
use ipnet::IpNet;
use proxy_common::{Algorithm, limits::MAGLEV_SIZES};
use proxy_model::TableSize;

use super::{ConfigError, DetectLocal, NodePortAddresses, Uplinks};

/// A value and where it stands: `--cluster-cidr`, or `clusterCIDR` of a file.
#[derive(Clone, Debug)]
pub(super) struct Given<T> {
    pub(super) value: T,
    pub(super) place: String,
}

impl<T> Given<T> {
    pub(super) fn flag(name: &str, value: T) -> Self {
        Self { value, place: format!("--{name}") }
    }

    /// That it makes no sense.
    pub(super) fn bad(&self, value: impl Into<String>, expected: &'static str) -> ConfigError {
        ConfigError::Value { place: self.place.clone(), value: value.into(), expected }
    }
}

pub(super) fn cidrs(given: &Given<Vec<String>>) -> Result<Vec<IpNet>, ConfigError> {
    let values = given.value.iter().map(|value| value.trim()).filter(|value| !value.is_empty());
    values.map(|value| cidr(given, value)).collect()
}

fn cidr(given: &Given<Vec<String>>, value: &str) -> Result<IpNet, ConfigError> {
    let expected = "an address range such as 10.244.0.0/16 or fd00:10::/56";
    value.parse::<IpNet>().map(|net| net.trunc()).map_err(|_| given.bad(value, expected))
}

/// Ranges of one flag and family that the kernel programs have room for: half of the `nets` map, so that ServiceCIDR
/// objects have room, too.
const MOST_RANGES: usize = proxy_common::limits::NETS as usize / 2;

/// Ranges that the kernel programs look up.
pub(super) fn known_cidrs(given: &Given<Vec<String>>) -> Result<Vec<IpNet>, ConfigError> {
    let ranges = cidrs(given)?;
    let of_family = |four: bool| ranges.iter().filter(|range| range.addr().is_ipv4() == four).count();
    match of_family(true).max(of_family(false)) {
        number if number > MOST_RANGES => {
            Err(ConfigError::TooMany { place: given.place.clone(), number, most: MOST_RANGES })
        }
        _ => Ok(ranges),
    }
}

/// Item 142: the names of the modes are kube-proxy's; two of them need the name of a device, or its beginning.
pub(super) fn detect_local(
    mode: Option<Given<String>>,
    bridge: Option<Given<String>>,
    prefix: Option<Given<String>>,
) -> Result<DetectLocal, ConfigError> {
    let Some(mode) = mode else { return Ok(DetectLocal::ClusterCidr) };
    let name = |given: Option<Given<String>>, expected| match given {
        Some(given) if !given.value.trim().is_empty() => Ok(given.value.trim().to_owned()),
        Some(_) | None => Err(mode.bad(mode.value.as_str(), expected)),
    };
    match mode.value.trim() {
        "ClusterCIDR" => Ok(DetectLocal::ClusterCidr),
        "NodeCIDR" => Ok(DetectLocal::NodeCidr),
        "BridgeInterface" => {
            name(bridge, "a mode that stands alone: give --pod-bridge-interface too").map(DetectLocal::Bridge)
        }
        "InterfaceNamePrefix" => {
            let expected = "a mode that stands alone: give --pod-interface-name-prefix too";
            name(prefix, expected).map(DetectLocal::Prefix)
        }
        other => Err(mode.bad(other, "ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix")),
    }
}

/// Item 67: `primary` stands alone.
pub(super) fn nodeport_addresses(given: &Given<Vec<String>>) -> Result<NodePortAddresses, ConfigError> {
    let values = &given.value;
    if let [only] = &values[..]
        && only.trim() == "primary"
    {
        return Ok(NodePortAddresses::Primary);
    }
    if values.iter().any(|value| value.trim() == "primary") {
        return Err(given.bad(values.join(","), "either `primary` alone or a list of address ranges"));
    }
    match cidrs(given)? {
        ranges if ranges.is_empty() => Ok(NodePortAddresses::Primary),
        ranges => Ok(NodePortAddresses::Ranges(ranges)),
    }
}

pub(super) fn uplinks(given: &Given<Vec<String>>) -> Result<Uplinks, ConfigError> {
    let trimmed = given.value.iter().map(|name| name.trim().to_owned());
    let names: Vec<String> = trimmed.filter(|name| !name.is_empty()).collect();
    if names.is_empty() || names == ["auto"] {
        return Ok(Uplinks::Auto);
    }
    // IFNAMSIZ is 16 with the final zero.
    if names.iter().any(|name| name == "auto" || name.len() > 15 || name.contains('/')) {
        return Err(given.bad(names.join(","), "either `auto` alone or a list of device names"));
    }
    Ok(Uplinks::Named(names))
}

pub(super) fn algorithm(given: &Given<String>) -> Result<Algorithm, ConfigError> {
    let expected = "one of random, maglev, rr, wrr, lc, wlc, sh";
    given.value.trim().parse().map_err(|_| given.bad(given.value.as_str(), expected))
}

pub(super) fn table_size(given: &Given<String>) -> Result<TableSize, ConfigError> {
    if given.value.trim() == "auto" {
        return Ok(TableSize::Fitting);
    }
    let expected = "`auto` or one of 251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131101";
    let slots = given.value.trim().parse().ok().filter(|slots| MAGLEV_SIZES.contains(slots));
    slots.map(TableSize::Fixed).ok_or_else(|| given.bad(given.value.as_str(), expected))
}

pub(super) fn size(flag: &str, entries: u32) -> Result<u32, ConfigError> {
    if entries > 0 {
        return Ok(entries);
    }
    Err(Given::flag(flag, ()).bad(entries.to_string(), "a number above zero"))
}

/// URLs, or hosts with or without a port: https and 6443 are what goes without saying.
pub(super) fn api_servers(given: &Given<Vec<String>>) -> Result<Vec<Uri>, ConfigError> {
    let values = given.value.iter().map(|value| value.trim()).filter(|value| !value.is_empty());
    let one = |value: &str| {
        let full = if value.contains("://") { value.to_owned() } else { format!("https://{value}") };
        let uri: Option<Uri> = full.parse().ok();
        let known = |uri: &Uri| matches!(uri.scheme_str(), Some("https" | "http")) && uri.path() == "/";
        let authority = uri.filter(known).and_then(|uri| Some((uri.clone(), uri.authority()?.clone())));
        let complete =
            authority.and_then(|(uri, authority)| match (authority.port(), value.contains("://")) {
                (None, false) => format!("https://{authority}:6443").parse().ok(),
                _ => Some(uri),
            });
        complete.ok_or_else(|| {
            given.bad(value, "a server such as 10.0.0.1:6443, [fd00::1]:6443 or https://api.example.net")
        })
    };
    values.map(one).collect()
}

/// `IP:PORT`, `[IP]:PORT`, `:PORT`, or an address alone with the default port; empty or `0` is off.
pub(super) fn bind_address(
    given: &Given<String>,
    default_port: u16,
) -> Result<Option<SocketAddr>, ConfigError> {
    let value = given.value.trim();
    if value.is_empty() || value == "0" {
        return Ok(None);
    }
    let full = if value.starts_with(':') { format!("0.0.0.0{value}") } else { value.to_owned() };
    let alone = || full.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, default_port));
    match full.parse::<SocketAddr>().ok().or_else(alone) {
        Some(address) => Ok(Some(address)),
        None => Err(given.bad(value, "an address and port such as 127.0.0.1:10249 or [::]:10256")),
    }
}

pub(super) fn period(given: &Given<String>) -> Result<Duration, ConfigError> {
    let value = given.value.trim();
    if value == "0" {
        return Ok(Duration::ZERO);
    }
    humantime::parse_duration(value).map_err(|_| given.bad(value, "a duration such as 0ms, 250ms or 1s"))
}
