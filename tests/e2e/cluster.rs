//! Services from the API server to the socket with nothing faked on the way: real controllers, real agents, real programs, real
//! connections. One story, told on each road. Needs root; the control plane is built once and cached.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod asking;
mod peer;
mod story;
mod testimony;
mod traces;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Instant;

use sluice_lab::{Failure, Topology};
use story::{Manners, Story};
use tests::cluster::{Cluster, Implementation, Road, kube_proxy::Mode};
use traces::Traces;

const TOPOLOGY: &str = "
nodes:
- {name: node-1, addresses: [172.18.0.11, 'fd00:18::11'], podCIDRs: [10.244.1.0/24, 'fd00:10:244:1::/64']}
- {name: node-2, addresses: [172.18.0.12, 'fd00:18::12'], podCIDRs: [10.244.2.0/24, 'fd00:10:244:2::/64']}
";

fn tell(implementation: Implementation, manners: Manners) {
    let begin = Instant::now();
    let chapter = |name: &str| println!("{:6.2}s {name}", begin.elapsed().as_secs_f64());
    let cluster = Cluster::up(&Topology::parse(TOPOLOGY).unwrap(), implementation).unwrap();
    let traces = Traces::of(&cluster);
    chapter("the cluster is up");
    let told = catch_unwind(AssertUnwindSafe(|| tell_of(&cluster, implementation, manners, &chapter)));
    if let Err(panic) = told {
        chapter("it broke off; this is what the cluster looked like:");
        println!("{}", testimony::of(&cluster));
        resume_unwind(panic);
    }
    cluster.down().unwrap();
    assert_eq!(traces.left(), Vec::<String>::new());
    chapter("nothing is left");
}

fn tell_of(cluster: &Cluster, implementation: Implementation, manners: Manners, chapter: &dyn Fn(&str)) {
    let mut story = Story::begin(cluster, manners);
    chapter("Deployment, Service and clients are ready");
    story.every_backend_answers_every_client();
    chapter("every backend answers every client");
    story.a_pod_on_the_network_of_its_node_serves();
    chapter("a Pod on its node's network serves");
    if matches!(implementation, Implementation::Sluice(_)) {
        // kube-proxy tries again only when something else makes it sync.
        story.health_checks_wait_for_their_port();
        chapter("health checks waited for their port");
    }
    story.scaling_fails_no_connection();
    chapter("scaled up and down without a failed connection");
    story.the_service_outlives_the_api_server();
    chapter("the API server was killed, and a change came through after its return");
    story.without_backends_it_refuses();
    chapter("without backends it refuses");
    story.without_the_service_nobody_answers();
    chapter("without the Service nobody answers");
}

#[test]
fn a_service_is_answered_from_kubectl_to_the_socket_on_the_socket_road() {
    // The hook fails the call itself.
    let given_up = Failure::Errno("EHOSTUNREACH".to_owned());
    let manners = Manners { datagram_from_node_refused: Failure::Refused, given_up };
    tell(Implementation::Sluice(Road::Socket), manners);
}

#[test]
fn a_service_is_answered_from_kubectl_to_the_socket_on_the_packet_road() {
    let manners = Manners { datagram_from_node_refused: Failure::Refused, given_up: Failure::Timeout };
    tell(Implementation::Sluice(Road::Packet), manners);
}

/// The story is about Kubernetes, so its own data path must be able to tell it: what fails here is wrong in the rig.
#[test]
fn the_same_story_holds_for_kube_proxy() {
    // A packet that netfilter rejects on its way out of the node fails the call that sends it.
    let datagram_from_node_refused = Failure::Errno("EPERM".to_owned());
    tell(
        Implementation::KubeProxy(Mode::Nftables),
        Manners { datagram_from_node_refused, given_up: Failure::Timeout },
    );
}
