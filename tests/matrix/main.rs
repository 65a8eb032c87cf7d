//! Which backends a client reaches through a frontend, and which source address they see: the matrix of
//! `TestInternalExternalMasquerade` (items 46–63 and 84–87) on real sockets, for each of four configurations, on both roads,
//! in both families, over TCP and UDP. Needs root.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod contract;
mod stage;

use contract::Configuration;
use sluice_lab::fixture::expectation::Road;
use stage::Stage;

/// One lab for a configuration, all cells of both roads in it.
fn holds(configuration: Configuration) {
    let mut stage = Stage::set();
    for road in [Road::Packet, Road::Socket] {
        assert_eq!(
            stage.differences(configuration, road),
            Vec::<String>::new(),
            "{configuration:?} {road:?}"
        );
    }
    stage.down();
}

#[test]
fn every_client_reaches_the_backends_of_the_contract_where_pods_can_be_told_from_others() {
    holds(Configuration::Detector);
}

#[test]
fn without_a_detector_no_cluster_address_is_masqueraded_and_pods_are_outsiders() {
    holds(Configuration::NoDetector);
}

#[test]
fn masquerade_all_hides_pods_from_the_backends_of_cluster_addresses() {
    holds(Configuration::MasqueradeAll);
}

#[test]
fn masquerade_all_without_a_detector_hides_everybody_from_the_backends_of_cluster_addresses() {
    holds(Configuration::MasqueradeAllNoDetector);
}
