//! The source with an API server: one watch per kind, each with its own recovery.
//!
//! Objects are reduced to facts as they are decoded; only their names are kept, to tell what a relist lacks.
//! Services and slices that are marked as headless never leave the server (item 2), and of the Nodes only this
//! one does.

mod contact;
mod strategy;
#[cfg(test)]
mod tests;
mod watch;

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use tokio::task::JoinSet;

use self::contact::Contacts;
use self::watch::Watch;
use crate::source::{Closed, Feed, Kind, Object, Update};

const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
const SLICES: &str = "!service.kubernetes.io/headless";

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
}

impl Watching {
    /// Items 1, 2: what is not for this proxy stays with the server.
    fn services(&self) -> String {
        match &self.service_proxy_name {
            Some(name) => format!("{SLICES},{PROXY_NAME}={name}"),
            None => format!("{SLICES},!{PROXY_NAME}"),
        }
    }
}

/// An API server to be watched.
pub struct Cluster {
    client: Client,
    watching: Watching,
}

impl Cluster {
    /// Reads a kubeconfig file. The server is not asked yet: it may be away.
    ///
    /// # Errors
    /// When the file cannot be read, or names no cluster or user that exists.
    pub async fn from_kubeconfig(path: &Path, watching: Watching) -> Result<Self, Error> {
        let fault = |source| Error::Kubeconfig { path: path.to_owned(), source };
        let file = Kubeconfig::read_from(path).map_err(fault)?;
        let config =
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(fault)?;
        Self::new(config, watching)
    }

    /// Uses the service account of the pod.
    ///
    /// # Errors
    /// When this is not a pod, or it has no service account.
    pub fn in_cluster(watching: Watching) -> Result<Self, Error> {
        Self::new(Config::incluster().map_err(Error::InCluster)?, watching)
    }

    fn new(config: Config, watching: Watching) -> Result<Self, Error> {
        let client = Client::try_from(config).map_err(Error::Client)?;
        Ok(Self { client, watching })
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
        let Self { client, watching } = self;
        let contacts = Contacts::new(client.clone(), feed.clone());
        let mut tasks = JoinSet::new();
        let services = Watch::new(Kind::Service, feed.clone(), contacts.clone()).labels(&watching.services());
        tasks.spawn(
            services.run(Api::<Service>::all(client.clone()), |object| Object::Service(object.into())),
        );
        let slices = Watch::new(Kind::EndpointSlice, feed.clone(), contacts.clone()).labels(SLICES);
        tasks.spawn(
            slices.run(Api::<EndpointSlice>::all(client.clone()), |object| {
                Object::EndpointSlice(object.into())
            }),
        );
        let nodes = Watch::new(Kind::Node, feed.clone(), contacts.clone())
            .fields(&format!("metadata.name={}", watching.node_name));
        tasks.spawn(nodes.run(Api::<Node>::all(client.clone()), |object| Object::Node(object.into())));
        let ranges = Watch::new(Kind::ServiceCidr, feed.clone(), contacts.clone()).optional();
        tasks.spawn(ranges.run(Api::<ServiceCIDR>::all(client), |object| Object::ServiceCidr(object.into())));
        // Nothing is planned from these two, so nothing is asked for.
        for kind in [Kind::Namespace, Kind::Pod] {
            feed.send(Update::Synced(kind)).await?;
        }
        tasks.spawn(contacts.probe());
        while let Some(ended) = tasks.join_next().await {
            match ended {
                Ok(result) => result?,
                Err(error) => tracing::error!(%error, "a watch has ended"),
            }
        }
        Ok(())
    }
}
