//! ServiceCIDR → the ranges that ClusterIPs are taken from (item 53).

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::ServiceCIDR;

use super::address::prefix;
use super::{Fault, Report};

pub(super) fn parse(object: &ServiceCIDR, report: &mut Report<'_>) -> Vec<IpNet> {
    let cidrs = object.spec.as_ref().and_then(|spec| spec.cidrs.as_deref()).unwrap_or_default();
    let read = |text: &String| {
        let prefix = prefix(text)?;
        IpNet::new(prefix.addr, prefix.len).map(|net| net.trunc()).map_err(|_| Fault::NotARange(text.clone()))
    };
    cidrs
        .iter()
        .enumerate()
        .filter_map(|(index, text)| report.keep(|| format!("spec.cidrs[{index}]"), read(text)))
        .collect()
}
