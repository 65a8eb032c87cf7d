//! The Deployment, its Service and what happens to them. Knows nothing of the clients' connections.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::Value;
use sluice_lab::Place;
use tests::cluster::Cluster;
use tests::cluster::kubectl::Kubectl;

/// Backends. An old one serves for three seconds after SIGTERM, as everything has to that wants to be restarted unnoticed.
const OBJECTS: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 20
  selector: {matchLabels: {app: web}}
  strategy: {rollingUpdate: {maxSurge: 5, maxUnavailable: 0}}
  template:
    metadata: {labels: {app: web}}
    spec:
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: web}}}
      containers:
      - name: netexec
        image: registry.k8s.io/e2e-test-images/agnhost:2.53
        args: [netexec, --http-port=8080, --udp-port=-1, --delay-shutdown=SHUTDOWN]
        ports: [{name: http, containerPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ipFamilyPolicy: RequireDualStack
  ports: [{name: http, port: 80, targetPort: http}]
---
apiVersion: v1
kind: Pod
metadata: {name: client, labels: {app: client}}
spec: {nodeSelector: {kubernetes.io/hostname: node-1}, containers: [{name: c, image: agnhost}]}
";

/// All cores are busy with connections meanwhile.
const PATIENCE: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(100);

/// Where the Service is asked.
pub(crate) struct Frontends {
    /// By family.
    pub(crate) cluster: Vec<SocketAddr>,
    /// By family, each on another node.
    pub(crate) node_ports: Vec<SocketAddr>,
    /// The pod that asks.
    pub(crate) client: Place,
}

/// The Deployment on a cluster.
pub(crate) struct Update<'a> {
    cluster: &'a Cluster,
    kubectl: Kubectl,
}

impl<'a> Update<'a> {
    /// Creates the objects and waits until all Pods are ready.
    pub(crate) fn prepare(cluster: &'a Cluster) -> Self {
        let kubectl = cluster.kubectl();
        let shutdown = std::env::var("SLUICE_ROLLING_SHUTDOWN").unwrap_or_else(|_| "3".to_owned());
        kubectl.apply(&OBJECTS.replace("SHUTDOWN", &shutdown)).unwrap();
        let update = Self { cluster, kubectl };
        update.await_rollout();
        update.kubectl.run("wait pod/client --for=condition=Ready --timeout=60s").unwrap();
        update
    }

    /// Addresses of the Service.
    pub(crate) fn frontends(&self) -> Frontends {
        let service = self.kubectl.get("service web").unwrap();
        let list = service["spec"]["clusterIPs"].as_array().unwrap();
        let ips = list.iter().map(|ip| ip.as_str().unwrap().parse::<IpAddr>().unwrap());
        let cluster = ips.map(|ip| SocketAddr::new(ip, 80)).collect();
        let port = service["spec"]["ports"][0]["nodePort"].as_u64().unwrap().try_into().unwrap();
        let nodes = self.cluster.lab().topology().nodes;
        let node_ports =
            vec![SocketAddr::new(nodes[0].addresses[0], port), SocketAddr::new(nodes[1].addresses[1], port)];
        Frontends { cluster, node_ports, client: self.cluster.pod("default", "client").unwrap() }
    }

    /// Replaces all Pods, a few at a time, and waits until the new ones are ready.
    pub(crate) fn restart(&self) {
        self.kubectl.run("rollout restart deployment/web").unwrap();
        self.await_rollout();
    }

    /// Waits until none is there but the newest.
    pub(crate) fn await_end_of_the_old(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let pods = self.kubectl.get("pods -l app=web").unwrap();
            let count = pods["items"].as_array().map_or(0, Vec::len);
            if count == 20 {
                return;
            }
            assert!(Instant::now() < deadline, "{count} Pods are left");
            std::thread::sleep(POLL);
        }
    }

    fn await_rollout(&self) {
        let line = format!("rollout status deployment/web --timeout={}s", PATIENCE.as_secs());
        if let Err(error) = self.kubectl.run(&line) {
            let pods: Value = self.kubectl.get("pods -l app=web").unwrap();
            panic!("{error:#}: {pods:#}, {:?}", self.cluster.troubles());
        }
    }
}
