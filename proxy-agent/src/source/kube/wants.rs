//! What is watched only once somebody needs it: Pods and Namespaces for the sake of policies, other nodes for the sake of
//! rules that name nodes. Once wanted, always wanted: a list that was given up would have to be made again.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::watch;

use crate::source::Object;

/// Shared by the watches of one server.
#[derive(Clone)]
pub(super) struct Wants {
    shared: Arc<Shared>,
}

struct Shared {
    pods: watch::Sender<bool>,
    nodes: watch::Sender<bool>,
    /// The other nodes have been listed.
    listed: watch::Sender<bool>,
}

impl Wants {
    /// Nothing is wanted yet.
    pub(super) fn new() -> Self {
        let [pods, nodes, listed] = [(); 3].map(|()| watch::Sender::new(false));
        Self { shared: Arc::new(Shared { pods, nodes, listed }) }
    }

    /// Sees what an object makes necessary.
    pub(super) fn look_at(&self, object: &Object) {
        match object {
            Object::NetworkPolicy(_) => want(&self.shared.pods),
            Object::ClusterNetworkPolicy(policy) => {
                want(&self.shared.pods);
                if names_nodes(&policy.data) {
                    want(&self.shared.nodes);
                }
            }
            Object::Service(_)
            | Object::EndpointSlice(_)
            | Object::Node(_)
            | Object::Namespace(_)
            | Object::Pod(_)
            | Object::ServiceCidr(_) => {}
        }
    }

    /// Until the nodes are known that a policy speaks of, if one does: a list of policies is not complete without them, as
    /// what denies them would let them pass.
    pub(super) async fn complete(&self) {
        let is_waited_for = *self.shared.nodes.borrow();
        if is_waited_for {
            until(&self.shared.listed).await;
        }
    }

    /// The other nodes have been listed.
    pub(super) fn nodes_listed(&self) {
        want(&self.shared.listed);
    }

    /// Until Pods and Namespaces are wanted.
    pub(super) async fn pods(&self) {
        until(&self.shared.pods).await;
    }

    /// Until the other nodes are wanted.
    pub(super) async fn nodes(&self) {
        until(&self.shared.nodes).await;
    }
}

fn want(what: &watch::Sender<bool>) {
    what.send_if_modified(|wanted| !std::mem::replace(wanted, true));
}

async fn until(what: &watch::Sender<bool>) {
    // The error means that the sender is gone, and it is ours.
    let _ = what.subscribe().wait_for(|wanted| *wanted).await;
}

/// Some rule's peer is `nodes` (policy item 56).
fn names_nodes(policy: &Value) -> bool {
    let rules = policy.pointer("/spec/egress").and_then(Value::as_array).into_iter().flatten();
    let peers = rules.filter_map(|rule| rule.get("to")?.as_array()).flatten();
    peers.into_iter().any(|peer| peer.get("nodes").is_some())
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use serde_json::json;

    use super::*;

    fn cluster_policy(peer: &Value) -> Object {
        let value = json!({"apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
            "metadata": {"name": "guard"}, "spec": {"egress": [{"action": "Deny", "to": [peer]}]}});
        Object::ClusterNetworkPolicy(Box::new(serde_json::from_value(value).unwrap()))
    }

    #[test]
    fn pods_are_wanted_once_there_is_a_policy_and_nodes_once_one_names_them() {
        let wants = Wants::new();
        let wanted = || (wants.pods().now_or_never().is_some(), wants.nodes().now_or_never().is_some());
        wants.look_at(&Object::Service(Box::default()));
        assert_eq!(wanted(), (false, false));
        wants.look_at(&cluster_policy(&json!({"namespaces": {}})));
        assert_eq!(wanted(), (true, false));
        assert!(wants.complete().now_or_never().is_some(), "no node is waited for");
        wants.look_at(&cluster_policy(&json!({"nodes": {}})));
        assert_eq!(wanted(), (true, true));
        // The list of policies is complete only with the nodes that it speaks of.
        assert!(wants.complete().now_or_never().is_none());
        wants.nodes_listed();
        assert!(wants.complete().now_or_never().is_some());
    }

    #[test]
    fn a_network_policy_alone_makes_pods_necessary() {
        let wants = Wants::new();
        wants.look_at(&Object::NetworkPolicy(Box::default()));
        assert!(wants.pods().now_or_never().is_some());
        assert!(wants.nodes().now_or_never().is_none());
    }
}
