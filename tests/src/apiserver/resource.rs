//! The kinds of objects that the server has, by their names in objects and in addresses.

/// One list of the API.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Resource {
    /// `v1 Service`.
    Services,
    /// `discovery.k8s.io/v1 EndpointSlice`.
    EndpointSlices,
    /// `v1 Node`.
    Nodes,
    /// `v1 Namespace`.
    Namespaces,
    /// `v1 Pod`.
    Pods,
    /// `networking.k8s.io/v1 ServiceCIDR`.
    ServiceCidrs,
    /// `networking.k8s.io/v1 NetworkPolicy`.
    NetworkPolicies,
    /// `policy.networking.k8s.io/v1alpha2 ClusterNetworkPolicy`.
    ClusterNetworkPolicies,
}

impl Resource {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Services,
        Self::EndpointSlices,
        Self::Nodes,
        Self::Namespaces,
        Self::Pods,
        Self::ServiceCidrs,
        Self::NetworkPolicies,
        Self::ClusterNetworkPolicies,
    ];

    /// The name in addresses.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        self.names().1
    }

    /// The name in `kind:`.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        self.names().2
    }

    /// The text in `apiVersion:`.
    #[must_use]
    pub const fn api_version(self) -> &'static str {
        self.names().0
    }

    const fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Services => ("v1", "services", "Service"),
            Self::EndpointSlices => ("discovery.k8s.io/v1", "endpointslices", "EndpointSlice"),
            Self::Nodes => ("v1", "nodes", "Node"),
            Self::Namespaces => ("v1", "namespaces", "Namespace"),
            Self::Pods => ("v1", "pods", "Pod"),
            Self::ServiceCidrs => ("networking.k8s.io/v1", "servicecidrs", "ServiceCIDR"),
            Self::NetworkPolicies => ("networking.k8s.io/v1", "networkpolicies", "NetworkPolicy"),
            Self::ClusterNetworkPolicies => {
                ("policy.networking.k8s.io/v1alpha2", "clusternetworkpolicies", "ClusterNetworkPolicy")
            }
        }
    }

    /// The kind whose objects say so.
    pub(super) fn of_kind(kind: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|resource| resource.kind() == kind)
    }

    /// The kind whose list over all namespaces is at this address.
    pub(super) fn at(path: &str) -> Option<Self> {
        let list = |resource: &Self| {
            let root = if resource.api_version() == "v1" { "api" } else { "apis" };
            path.trim_matches('/') == format!("{root}/{}/{}", resource.api_version(), resource.plural())
        };
        Self::ALL.into_iter().find(list)
    }
}
