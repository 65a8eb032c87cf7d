//! Annotations of Services: how a backend is chosen, and how much each should get. What cannot be read counts as not
//! being there.
//!
//! ```text
//! sluice.dev/algorithm: random | maglev | mh | rr | wrr | lc | wlc | sh
//! sluice.dev/weights:   rule { "," rule }      rule:   who "=" weight        weight: 0 to 255
//!                                              who:    IP address | "node/" NAME | "zone/" NAME | "*"
//! sluice.dev/dsr:       true | false
//! ```
//! The narrowest rule decides: address, node, zone, all others; nothing said is the weight of one.

use std::collections::BTreeMap;

use proxy_common::{Algorithm, Weight};
use proxy_model::Weights;
use proxy_model::settings::Serving;

use super::Fault;
use super::address::address;

/// How a backend is chosen.
pub(super) const ALGORITHM: &str = "sluice.dev/algorithm";
/// How much each backend should get.
pub(super) const WEIGHTS: &str = "sluice.dev/weights";
/// Whether packets may go to backends' nodes in tunnels.
pub(super) const DSR: &str = "sluice.dev/dsr";

/// Where an annotation stands in an object.
pub(super) fn path(annotation: &str) -> String {
    format!("metadata.annotations[{annotation}]")
}

pub(super) fn algorithm(text: Option<&String>) -> Result<Option<Algorithm>, Fault> {
    let Some(text) = text.map(|text| text.trim()).filter(|text| !text.is_empty()) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| Fault::NotAnAlgorithm { value: text.to_owned() })
}

pub(super) fn direct_return(text: Option<&String>) -> Result<Option<Serving>, Fault> {
    match text.map_or("", |text| text.trim()) {
        "" => Ok(None),
        "true" => Ok(Some(Serving::On)),
        "false" => Ok(Some(Serving::Off)),
        other => Err(Fault::NotTrueOrFalse { value: other.to_owned() }),
    }
}

pub(super) fn weights(text: Option<&String>) -> Result<Weights, Fault> {
    let mut weights = Weights::default();
    let Some(text) = text.map(|text| text.trim()).filter(|text| !text.is_empty()) else {
        return Ok(weights);
    };
    for part in text.split(',').map(str::trim) {
        rule(part, &mut weights).map_err(|wrong| Fault::NotWeights { part: part.to_owned(), wrong })?;
    }
    Ok(weights)
}

fn rule(part: &str, weights: &mut Weights) -> Result<(), &'static str> {
    let (who, weight) = part.split_once('=').ok_or("not WHO=WEIGHT")?;
    let number = weight.trim().parse::<u8>().map_err(|_| "no weight from 0 to 255")?;
    let (who, weight) = (who.trim(), Weight(number));
    if who == "*" {
        return if weights.others.replace(weight).is_some() { Err(TWICE) } else { Ok(()) };
    }
    if let Some(node) = who.strip_prefix("node/") {
        return insert(&mut weights.nodes, name(node)?.into(), weight);
    }
    if let Some(zone) = who.strip_prefix("zone/") {
        return insert(&mut weights.zones, name(zone)?.into(), weight);
    }
    let ip = address(who).map_err(|_| "neither an IP address nor node/NAME, zone/NAME or *")?;
    insert(&mut weights.addresses, ip, weight)
}

const TWICE: &str = "a second rule for the same endpoints";

fn name(text: &str) -> Result<&str, &'static str> {
    if text.is_empty() || text.contains(char::is_whitespace) { Err("without a name") } else { Ok(text) }
}

fn insert<K: Ord>(rules: &mut BTreeMap<K, Weight>, who: K, weight: Weight) -> Result<(), &'static str> {
    if rules.insert(who, weight).is_some() { Err(TWICE) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Weights, Fault> {
        weights(Some(&text.to_owned()))
    }

    #[test]
    fn weights_are_read_by_address_node_zone_and_for_all_others() {
        let expected = Weights {
            addresses: [("10.0.0.1".parse().unwrap(), Weight(3)), ("fd00::1".parse().unwrap(), Weight(0))]
                .into(),
            nodes: [("n1.example".into(), Weight(2))].into(),
            zones: [("eu-1a".into(), Weight(255))].into(),
            others: Some(Weight(1)),
        };
        let text = "10.0.0.1=3, fd00::1 = 0,node/n1.example=2 ,zone/eu-1a=255, *=1";
        assert_eq!(read(text), Ok(expected));
        for nothing in ["", "  "] {
            assert_eq!(read(nothing), Ok(Weights::default()));
        }
    }

    #[test]
    fn what_is_no_list_of_weights_says_which_part_and_why() {
        for (text, part, wrong) in [
            ("10.0.0.1=3,nonsense", "nonsense", "not WHO=WEIGHT"),
            ("*=1,", "", "not WHO=WEIGHT"),
            ("*=256", "*=256", "no weight from 0 to 255"),
            ("*=-1", "*=-1", "no weight from 0 to 255"),
            ("*=1.5", "*=1.5", "no weight from 0 to 255"),
            ("web-0=1", "web-0=1", "neither an IP address nor node/NAME, zone/NAME or *"),
            ("10.0.0.0/8=1", "10.0.0.0/8=1", "neither an IP address nor node/NAME, zone/NAME or *"),
            ("node/=1", "node/=1", "without a name"),
            ("zone/a b=1", "zone/a b=1", "without a name"),
            ("*=1,*=1", "*=1", TWICE),
            ("10.0.0.1=1, 10.0.0.01=2", "10.0.0.01=2", TWICE),
        ] {
            assert_eq!(read(text), Err(Fault::NotWeights { part: part.to_owned(), wrong }), "{text}");
        }
    }

    #[test]
    fn direct_server_return_is_true_or_false_and_nothing_else() {
        let read = |text: &str| direct_return(Some(&text.to_owned()));
        assert_eq!([read("true"), read(" false ")], [Ok(Some(Serving::On)), Ok(Some(Serving::Off))]);
        assert_eq!([read(""), direct_return(None)], [Ok(None), Ok(None)]);
        assert_eq!(
            read("yes").map_err(|fault| fault.to_string()),
            Err("\"yes\" is neither true nor false; --dsr decides".to_owned())
        );
    }

    #[test]
    fn an_algorithm_is_read_by_its_name_and_anything_else_names_those_that_there_are() {
        let read = |text: &str| algorithm(Some(&text.to_owned()));
        assert_eq!(read(" wlc "), Ok(Some(Algorithm::WEIGHTED_LEAST_CONNECTIONS)));
        assert_eq!(read("mh"), Ok(Some(Algorithm::MAGLEV)));
        assert_eq!(read(""), Ok(None));
        assert_eq!(
            read("lblc").map_err(|fault| fault.to_string()),
            Err("\"lblc\" is none of random, maglev, rr, wrr, lc, wlc, sh; the default is used".to_owned())
        );
    }
}
