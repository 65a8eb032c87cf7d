//! The story of one Service: its objects, its clients, and what must be true in each chapter whoever implements it.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use sluice_lab::{Failure, Listen, Load, Place, Probe, Protocol, Tally, UdpStyle};
use tests::cluster::Cluster;
use tests::cluster::control_plane::Component;
use tests::cluster::kubectl::Kubectl;

use crate::asking::{TCP_PORT, at_each, await_answers, await_failure, eventually, every_way};

const CLIENTS: [&str; 2] = ["client-1", "client-2"];

/// The backends stay for three seconds after SIGTERM, as everything has to that wants to be restarted unnoticed: the news of
/// its end passes through two controllers and a watch first, on a machine that may be busy.
const OBJECTS: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}}
      containers:
      - name: netexec
        image: registry.k8s.io/e2e-test-images/agnhost:2.53
        args: [netexec, --http-port=8080, --udp-port=8081, --delay-shutdown=3]
        ports: [{name: http, containerPort: 8080}, {name: echo, containerPort: 8081, protocol: UDP}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ipFamilyPolicy: RequireDualStack
  ports: [{name: http, port: 80, targetPort: http}, {name: echo, port: 81, protocol: UDP, targetPort: echo}]
---
apiVersion: v1
kind: Pod
metadata: {name: client-1, labels: {app: client}}
spec: {nodeSelector: {kubernetes.io/hostname: node-1}, containers: [{name: c, image: agnhost}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client-2, labels: {app: client}}
spec: {nodeSelector: {kubernetes.io/hostname: node-2}, containers: [{name: c, image: agnhost}]}
";

const ON_NODE_PORT: u16 = 8090;
const ON_NODE: &str = "
apiVersion: v1
kind: Pod
metadata: {name: on-node, labels: {app: on-node}}
spec:
  hostNetwork: true
  nodeSelector: {kubernetes.io/hostname: node-1}
  containers:
  - name: netexec
    image: agnhost
    args: [netexec, --http-port=8090, --udp-port=8091]
    ports: [{name: http, containerPort: 8090}, {name: echo, containerPort: 8091, protocol: UDP}]
---
apiVersion: v1
kind: Service
metadata: {name: on-node}
spec:
  selector: {app: on-node}
  ipFamilyPolicy: RequireDualStack
  ports: [{name: http, port: 80, targetPort: http}, {name: echo, port: 81, protocol: UDP, targetPort: echo}]
";

/// Where node-1 is asked for the health of `checked`.
const CHECKED_AT: &str = "172.18.0.11:32100";
const CHECKED: &str = "
apiVersion: v1
kind: Service
metadata: {name: checked}
spec:
  type: LoadBalancer
  selector: {app: web}
  externalTrafficPolicy: Local
  healthCheckNodePort: 32100
  ports: [{name: http, port: 80, targetPort: http}]
";

/// How an implementation says no, where the contract leaves it open.
#[derive(Clone, Debug)]
pub(crate) struct Manners {
    /// What a node's process is told that sends a datagram to a Service without endpoints.
    pub(crate) datagram_from_node_refused: Failure,
    /// What a pod is told that asks an address of the Service range which belongs to no Service.
    pub(crate) given_up: Failure,
}

/// The Service, its clients, and the connections that go on through several chapters.
pub(crate) struct Story<'a> {
    cluster: &'a Cluster,
    kubectl: Kubectl,
    clients: Vec<Place>,
    nodes: Vec<Place>,
    addresses: Vec<IpAddr>,
    loads: Vec<(String, Load)>,
    manners: Manners,
}

impl<'a> Story<'a> {
    /// Creates the objects as an operator does, and waits until their Pods are ready.
    pub(crate) fn begin(cluster: &'a Cluster, manners: Manners) -> Self {
        let kubectl = cluster.kubectl();
        kubectl.apply(OBJECTS).unwrap();
        kubectl.run("rollout status deployment/web --timeout=30s").unwrap();
        kubectl.run("wait pod --for=condition=Ready -l app=client --timeout=30s").unwrap();
        let service = kubectl.get("service web").unwrap();
        let addresses = addresses_of(&service);
        let clients = CLIENTS.map(|name| cluster.pod("default", name).unwrap());
        let nodes = ["node-1", "node-2"].map(|name| cluster.lab().node(name).unwrap());
        Self {
            cluster,
            kubectl,
            clients: clients.into(),
            nodes: nodes.into(),
            addresses,
            loads: Vec::new(),
            manners,
        }
    }

    /// Pods and nodes reach all backends, on both nodes, in both families; and the client is told that it speaks to the Service
    /// (items 8, 23, 35, 46).
    pub(crate) fn every_backend_answers_every_client(&self) {
        let backends = self.backends();
        assert_eq!(backends.len(), 3);
        assert_eq!(self.addresses.iter().map(IpAddr::is_ipv4).collect::<Vec<_>>(), [true, false]);
        at_each(self.clients.iter().chain(&self.nodes), |place| {
            await_answers(place, &self.addresses, &backends)
        });
        for client in &self.clients {
            let questions = every_way(&self.addresses, 1);
            for (question, tally) in questions.iter().zip(client.probe(&questions).unwrap()) {
                let named = BTreeSet::from_iter((question.udp == UdpStyle::Connected).then_some(question.to));
                assert_eq!(
                    tally.peer_names, named,
                    "{} {} -> {}",
                    client.name, question.protocol, question.to
                );
            }
        }
        let at = SocketAddr::new(self.addresses[0], TCP_PORT);
        self.kubectl.run(&format!("exec client-1 -- /agnhost connect --timeout=3s {at}")).unwrap();
    }

    /// A Pod that uses its node's network serves from the node's address, also clients on that node; and its processes end with it.
    pub(crate) fn a_pod_on_the_network_of_its_node_serves(&self) {
        self.kubectl.apply(ON_NODE).unwrap();
        self.kubectl.run("wait pod/on-node --for=condition=Ready --timeout=30s").unwrap();
        let addresses = addresses_of(&self.kubectl.get("service on-node").unwrap());
        // Its host name is the node's.
        let name = BTreeSet::from(["node-1".to_owned()]);
        at_each(self.clients.iter().chain(&self.nodes), |place| await_answers(place, &addresses, &name));
        self.kubectl.run("delete pod/on-node service/on-node").unwrap();
        let served = SocketAddr::new(self.nodes[0].ips[0], ON_NODE_PORT);
        eventually("its process has ended", || {
            let tally = self.clients[1].probe(&[Probe::new(Protocol::Tcp, served)]).unwrap().remove(0);
            if tally.failed.contains_key(&Failure::Refused) { Ok(()) } else { Err(tally) }
        });
    }

    /// New connections all the time, while backends come and go: none fails, all new backends are used, no old one is (items 28,
    /// 29, 33).
    pub(crate) fn scaling_fails_no_connection(&mut self) {
        let few = self.backends();
        self.start_loads();
        self.scale(6);
        let many = self.backends();
        assert_eq!((many.len(), many.is_superset(&few)), (6, true));
        self.await_load_on(&many);
        self.scale(2);
        let rest = self.backends();
        assert_eq!((rest.len(), many.is_superset(&rest)), (2, true));
        self.await_only(&rest);
    }

    /// While the API server is dead every connection succeeds, and a change after its return arrives.
    pub(crate) fn the_service_outlives_the_api_server(&mut self) {
        let control = self.cluster.control_plane();
        let outage = control.outage(Component::ApiServer).unwrap();
        // The sockets of a killed process are closed a little after its death.
        eventually("the API server is away", || match TcpStream::connect(control.server()) {
            Ok(_) => Err("it accepts connections"),
            Err(_) => Ok(()),
        });
        for client in &self.clients {
            for tally in client.probe(&every_way(&self.addresses, 20)).unwrap() {
                assert_eq!((tally.answers(), tally.failures()), (20, 0), "{}: {tally}", client.name);
            }
        }
        drop(outage);
        eventually("the API server is back", || self.kubectl.run("get --raw=/readyz"));
        self.scale(4);
        let backends = self.backends();
        assert_eq!(backends.len(), 4);
        self.await_load_on(&backends);
        for (name, load) in std::mem::take(&mut self.loads) {
            let report = load.stop().unwrap();
            assert_eq!(report.tally.failures(), 0, "{name}: {:?}", report.first_failures);
            println!("load {name}: {} connections, slowest {:?}", report.tally.answers(), report.slowest);
        }
    }

    /// A port for health checks that somebody else holds is an Event on the Service; it is had once it is free (item 129).
    pub(crate) fn health_checks_wait_for_their_port(&self) {
        let node = &self.nodes[0];
        node.listen(&[Listen { protocol: Protocol::Tcp, at: CHECKED_AT.parse().unwrap() }]).unwrap();
        self.kubectl.apply(CHECKED).unwrap();
        eventually("an Event says that the port cannot be had", || {
            let events = self.kubectl.get("events.events.k8s.io").unwrap();
            let is_ours = |event: &Value| {
                event["reason"] == "FailedToStartServiceHealthcheck"
                    && event["regarding"]["name"] == "checked"
            };
            if events["items"].as_array().unwrap().iter().any(is_ours) {
                Ok(())
            } else {
                Err(events.to_string())
            }
        });
        node.listen(&[]).unwrap();
        eventually("health checks are answered", || {
            let answer = node.get(&format!("http://{CHECKED_AT}/"), Duration::from_secs(2)).unwrap();
            if answer.as_ref().is_ok_and(|answer| answer.status == 200) {
                Ok(())
            } else {
                Err(format!("{answer:?}"))
            }
        });
        self.kubectl.run("delete service checked").unwrap();
    }

    /// A Service without endpoints refuses, it does not stay silent (item 50).
    pub(crate) fn without_backends_it_refuses(&self) {
        self.kubectl.run("delete deployment web").unwrap();
        self.kubectl.run("wait pod --for=delete -l app=web --timeout=30s").unwrap();
        assert_eq!(self.backends(), BTreeSet::new());
        let from_node = |protocol| match protocol {
            Protocol::Udp => self.manners.datagram_from_node_refused.clone(),
            Protocol::Tcp | Protocol::Sctp | Protocol::Icmp => Failure::Refused,
        };
        at_each(&self.clients, |client| await_failure(client, &self.addresses, |_| Failure::Refused));
        at_each(&self.nodes, |node| await_failure(node, &self.addresses, from_node));
    }

    /// An address that belongs to no Service is given up at the node, and not sent into the network (item 53).
    pub(crate) fn without_the_service_nobody_answers(&self) {
        self.kubectl.run("delete service web").unwrap();
        let given_up = |_| self.manners.given_up.clone();
        at_each(&self.clients, |client| await_failure(client, &self.addresses, given_up));
    }

    /// Names of the ready endpoints, as the real controllers say; the same in both families.
    fn backends(&self) -> BTreeSet<String> {
        eventually("the slices of both families agree", || {
            let slices = self.kubectl.get("endpointslices -l kubernetes.io/service-name=web").unwrap();
            let of = |family: &str| -> BTreeSet<String> {
                let slices =
                    slices["items"].as_array().unwrap().iter().filter(|slice| slice["addressType"] == family);
                let endpoints =
                    slices.flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default());
                let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true);
                ready.map(|endpoint| endpoint["targetRef"]["name"].as_str().unwrap().to_owned()).collect()
            };
            let (four, six) = (of("IPv4"), of("IPv6"));
            let pods = self.kubectl.get("pods -l app=web").unwrap()["items"].as_array().unwrap().len();
            if four == six && four.len() == pods {
                Ok(four)
            } else {
                Err(format!("{four:?}, {six:?}, {pods} Pods"))
            }
        })
    }

    /// Changes the number of replicas and waits until the last Pod has come or gone.
    fn scale(&self, replicas: usize) {
        self.kubectl.run(&format!("scale deployment/web --replicas={replicas}")).unwrap();
        self.kubectl.run("rollout status deployment/web --timeout=30s").unwrap();
        eventually("no Pod is left over", || {
            let pods = self.kubectl.get("pods -l app=web").unwrap()["items"].as_array().unwrap().len();
            if pods == replicas { Ok(()) } else { Err(format!("{pods} Pods")) }
        });
    }

    fn start_loads(&mut self) {
        println!("loads start at {}", humantime::format_rfc3339_millis(SystemTime::now()));
        for client in &self.clients {
            for question in every_way(&self.addresses, 1)
                .into_iter()
                .filter(|question| question.udp == UdpStyle::Connected)
            {
                let name = format!("{} -> {} {}", client.name, question.protocol, question.to);
                // Patience for a busy machine: a connection that takes seconds is slow, not failed.
                let timeout = Duration::from_secs(5);
                let question =
                    Probe { concurrency: 4, pause: Duration::from_millis(20), timeout, ..question };
                self.loads.push((name.clone(), client.load(&name, &question).unwrap()));
            }
        }
    }

    /// What the loads have come to so far, without a failure.
    fn tallies(&self) -> Vec<Tally> {
        let read = |(name, load): &(String, Load)| {
            let report = load.read().unwrap();
            assert_eq!(report.tally.failures(), 0, "{name}: {:?}", report.first_failures);
            report.tally
        };
        self.loads.iter().map(read).collect()
    }

    /// Waits until every load has been answered by each of these Pods.
    fn await_load_on(&self, backends: &BTreeSet<String>) {
        eventually("every load reaches every backend", || {
            let seen = |tally: &Tally| tally.answered.keys().cloned().collect::<BTreeSet<_>>();
            let missing: Vec<String> =
                self.tallies().iter().map(|tally| format!("{:?}", backends - &seen(tally))).collect();
            if missing.iter().all(|set| set == "{}") { Ok(()) } else { Err(format!("missing: {missing:?}")) }
        });
    }

    /// Waits until every load has gone on for a while and no other Pod than these has answered meanwhile.
    fn await_only(&self, backends: &BTreeSet<String>) {
        let before = self.tallies();
        let after = eventually("every load goes on", || {
            let after = self.tallies();
            let least =
                after.iter().zip(&before).map(|(after, before)| after.answers() - before.answers()).min();
            if least.is_some_and(|least| least >= 30) {
                Ok(after)
            } else {
                Err(format!("{least:?} connections"))
            }
        });
        for ((name, _), (before, after)) in self.loads.iter().zip(before.iter().zip(&after)) {
            let count =
                |tally: &Tally, pod: &String| tally.answered.get(pod).map_or(0, |server| server.count);
            let used = after.answered.keys().filter(|pod| count(after, pod) > count(before, pod));
            assert_eq!(&used.cloned().collect::<BTreeSet<_>>(), backends, "{name}");
        }
    }
}

fn addresses_of(service: &Value) -> Vec<IpAddr> {
    let list = service["spec"]["clusterIPs"].as_array().unwrap();
    list.iter().map(|ip| ip.as_str().unwrap().parse().unwrap()).collect()
}
