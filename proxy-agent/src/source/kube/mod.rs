//! The source with an API server: one watch per kind, each with its own recovery.
//!
//! Objects are reduced to facts as they are decoded; only their names are kept, to tell what a relist lacks.
//! Services and slices that are marked as headless never leave the server (item 2), and of the Nodes only this
//! one does unless a policy speaks of others, or they may send tunnels. Pods and Namespaces are asked for once there is a
//! policy.

mod contact;
mod known;
mod lenient;
mod servers;
mod strategy;
#[cfg(test)]
mod tests;
mod untold;
mod wants;
mod watch;

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{NetworkPolicy, ServiceCIDR};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::task::JoinSet;

use self::contact::Contacts;
pub use self::servers::Known;
use self::servers::Servers;
use self::untold::Untold;
use self::wants::Wants;
use self::watch::{Apis, Watch};
use crate::source::{Closed, Feed, Kind, Object};

const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
const SLICES: &str = "!service.kubernetes.io/headless";
/// Policy item 44: who has ended is nobody's peer, and its address may be another pod's.
const PODS: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// There is no way to the API server: it is not known where it is, or as whom to speak to it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is missing or makes no sense.
    #[error("--kubeconfig {}: cannot be used", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Why.
        source: kube::config::KubeconfigError,
    },
    /// Not in a pod, or without a service account.
    #[error("no --manifests and no --kubeconfig is given, and the pod's own cluster cannot be used")]
    InCluster(#[source] kube::config::InClusterError),
    /// Certificates or keys make no sense.
    #[error("the way to the API server cannot be set up")]
    Client(#[source] kube::Error),
}

/// For whom the API server is watched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Watching {
    /// This node's name.
    pub node_name: String,
    /// Value of the label whose Services are served; `None`: those without it (item 1).
    pub service_proxy_name: Option<String>,
    /// Whether policies are read, and what they are about.
    pub policies: Policies,
    /// Which Nodes count.
    pub nodes: Nodes,
}

/// Whether policies are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policies {
    /// They are.
    Read,
    /// They are not, and neither are Pods and Namespaces.
    Left,
}

/// Which Nodes count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Nodes {
    /// This one.
    Own,
    /// All: their addresses say who may send tunnels.
    All,
}

impl Watching {
    /// Items 1, 2: what is not for this proxy stays with the server. The proxy of all others must know where those with a name
    /// are: an address without a Service is dropped (item 53).
    fn services(&self) -> String {
        match &self.service_proxy_name {
            Some(name) => format!("{SLICES},{PROXY_NAME}={name}"),
            None => SLICES.to_owned(),
        }
    }
}

/// An API server to be watched.
pub struct Cluster {
    servers: Servers,
    client: Client,
    watching: Watching,
}

impl Cluster {
    /// Reads a kubeconfig file. The server is not asked yet: it may be away.
    ///
    /// # Errors
    /// When the file cannot be read, or names no cluster or user that exists.
    pub async fn from_kubeconfig(path: &Path, watching: Watching, known: Known) -> Result<Self, Error> {
        let fault = |source| Error::Kubeconfig { path: path.to_owned(), source };
        let file = Kubeconfig::read_from(path).map_err(fault)?;
        let config =
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(fault)?;
        Self::new(config, watching, known)
    }

    /// Uses the service account of the pod.
    ///
    /// # Errors
    /// When this is not a pod, or it has no service account.
    pub fn in_cluster(watching: Watching, known: Known) -> Result<Self, Error> {
        Self::new(Config::incluster().map_err(Error::InCluster)?, watching, known)
    }

    fn new(config: Config, watching: Watching, known: Known) -> Result<Self, Error> {
        let servers = Servers::new(config, known)?;
        let client = servers.client();
        Ok(Self { servers, client, watching })
    }

    /// The way to the server.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Watches until the agent stops.
    ///
    /// # Errors
    /// [`Closed`] only.
    pub async fn run(self, feed: Feed) -> Result<(), Closed> {
        let Self { servers, client, watching } = self;
        let contacts = Contacts::new(client.clone(), feed.clone());
        let mut tasks = JoinSet::new();
        let untold = Untold::default();
        let watch = |kind: Kind| Watch::new(kind, feed.clone(), contacts.clone()).accounting(&untold);
        let services = watch(Kind::Service).labels(&watching.services());
        tasks
            .spawn(services.run(Apis::<Service>::all(&client, &()), |object| Object::Service(object.into())));
        let slices = watch(Kind::EndpointSlice).labels(SLICES).teaching(&servers);
        tasks
            .spawn(slices.run(Apis::<EndpointSlice>::all(&client, &()), |object| {
                Object::EndpointSlice(object.into())
            }));
        let wants = Wants::new();
        let nodes = match watching.nodes {
            Nodes::Own => watch(Kind::Node).fields(&format!("metadata.name={}", watching.node_name)),
            Nodes::All => watch(Kind::Node).bringing_nodes(&wants),
        };
        tasks.spawn(nodes.run(Apis::<Node>::all(&client, &()), |object| Object::Node(object.into())));
        let ranges = watch(Kind::ServiceCidr).optional();
        tasks.spawn(
            ranges.run(Apis::<ServiceCIDR>::all(&client, &()), |object| Object::ServiceCidr(object.into())),
        );
        if watching.policies == Policies::Read {
            follow_policies(&mut tasks, &client, &watching, wants, &watch);
        }
        tasks.spawn(contacts.clone().probe());
        while let Some(ended) = tasks.join_next().await {
            match ended {
                Ok(result) => result?,
                Err(error) => tracing::error!(%error, "a watch has ended"),
            }
        }
        Ok(())
    }
}

/// Watches policies, and once there is one, whom they may be about.
fn follow_policies(
    tasks: &mut JoinSet<Result<(), Closed>>,
    client: &Client,
    watching: &Watching,
    wants: Wants,
    watch: &impl Fn(Kind) -> Watch,
) {
    let policies = watch(Kind::NetworkPolicy).wanting(&wants);
    tasks.spawn(
        policies.run(Apis::<NetworkPolicy>::all(client, &()), |object| Object::NetworkPolicy(object.into())),
    );
    let kind = GroupVersionKind::gvk("policy.networking.k8s.io", "v1alpha2", "ClusterNetworkPolicy");
    let resource = ApiResource::from_gvk_with_plural(&kind, "clusternetworkpolicies");
    let policies = watch(Kind::ClusterNetworkPolicy).optional().wanting(&wants);
    tasks.spawn(policies.run(Apis::<DynamicObject>::all(client, &resource), |object| {
        Object::ClusterNetworkPolicy(object.into())
    }));
    let namespaces = watch(Kind::Namespace);
    let pods = watch(Kind::Pod).fields(PODS);
    if watching.nodes == Nodes::Own {
        // Those that the other watch of nodes does not bring.
        let others = format!("metadata.name!={}", watching.node_name);
        let nodes = watch(Kind::Node).fields(&others).bringing_nodes(&wants);
        let (api, wanted) = (Apis::<Node>::all(client, &()), wants.clone());
        tasks.spawn(async move {
            wanted.nodes().await;
            tracing::info!("a policy speaks of nodes: asking for all of them");
            nodes.run(api, |object| Object::Node(object.into())).await
        });
    }
    let client = client.clone();
    tasks.spawn(async move {
        wants.pods().await;
        tracing::info!("there are policies: asking for pods and namespaces");
        tokio::try_join!(
            namespaces.run(Apis::<Namespace>::all(&client, &()), |object| Object::Namespace(object.into())),
            pods.run(Apis::<Pod>::all(&client, &()), |object| Object::Pod(object.into())),
        )
        .map(drop)
    });
}
