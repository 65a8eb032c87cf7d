//! Which address families are served as the node's addresses come and go.

use std::process::Command;

use rustix::process::Signal;

use crate::node::{Node, eventually, on_a_node};

const DUAL: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIPs: [10.96.0.10, 'fd00:96::10'], ports: [{name: http, port: 80}]}
";

fn ip(words: &[&str]) {
    assert!(Command::new("ip").args(words).status().expect("ip").success(), "ip {words:?}");
}

/// Where the Service is served.
fn addresses(node: &Node) -> Vec<String> {
    eventually("the Service is known by its name", || {
        let page = node.ctl_if(&["service", "get", "shop/web"])?;
        let frontends = page["frontends"].as_array()?.iter();
        Some(frontends.map(|frontend| frontend["address"].as_str().expect("a text").to_owned()).collect())
    })
}

#[test]
fn a_family_whose_first_address_comes_late_takes_another_start_and_is_served_on_while_it_is_away() {
    on_a_node(|node| {
        node.write("web.yaml", DUAL);
        node.start();
        assert_eq!(addresses(node), ["10.96.0.10"]);
        ip(&["addr", "add", "2001:db8::1/64", "dev", "eth0", "nodad"]);
        assert_eq!(node.await_end(), Some(1));
        let said = node.said();
        let told = "the node has got an address of a family that is not served (--ip-family=auto, Ipv4)";
        assert_eq!(said.matches(told).count(), 1, "{said}");
        node.start();
        assert_eq!(addresses(node), ["10.96.0.10", "fd00:96::10"]);
        ip(&["addr", "del", "2001:db8::1/64", "dev", "eth0"]);
        node.end(Signal::KILL);
        node.start();
        assert_eq!(addresses(node), ["10.96.0.10", "fd00:96::10"]);
    });
}
