//! The matrix as the contract states it, for four configurations. Knows no lab: rows, columns, and what a cell says.

/// How the product is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Configuration {
    /// It knows the pods' ranges.
    Detector,
    /// It does not.
    NoDetector,
    /// It knows them, and `--masquerade-all` is given.
    MasqueradeAll,
    /// It does not, and `--masquerade-all` is given.
    MasqueradeAllNoDetector,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    /// A pod on the node that handles the packet.
    Pod,
    /// A process of that node.
    Node,
    /// A host that is no node, which sends through that node.
    External,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frontend {
    ClusterIp,
    NodePort,
    LoadBalancerIp,
}

/// Who is to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backends {
    /// Each endpoint.
    All,
    /// The endpoint on the node that handles the packet, and only that.
    Local,
}

/// Whom the backends take for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The client.
    Kept,
    /// The node that handles the packet.
    Masqueraded,
}

/// A cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) client: Client,
    pub(crate) frontend: Frontend,
    /// 0: both policies Cluster; 1: externalTrafficPolicy Local; 2: internalTrafficPolicy Local.
    pub(crate) service: usize,
    pub(crate) backends: Backends,
    pub(crate) source: Source,
}

/// Who asks, what, in which configurations (`d` knows the pods' ranges, `n` does not; `D` and `N` the same with
/// `--masquerade-all`), and what becomes of it by policy, as in [`Cell::service`].
const ROWS: &str = "
pod      ClusterIP  dn    all         all         local
pod      ClusterIP  DN    all+snat    all+snat    local+snat
pod      NodePort   dD    all+snat    all         all+snat
pod      NodePort   nN    all+snat    local       all+snat
pod      LB         dD    all+snat    all         all+snat
pod      LB         nN    all+snat    local       all+snat
node     ClusterIP  n     all         all         local
node     ClusterIP  dDN   all+snat    all+snat    local+snat
node     NodePort   dnDN  all+snat    all+snat    all+snat
node     LB         dnDN  all+snat    all+snat    all+snat
external ClusterIP  n     all         all         local
external ClusterIP  dDN   all+snat    all+snat    local+snat
external NodePort   dnDN  all+snat    local       all+snat
external LB         dnDN  all+snat    local       all+snat
";

impl Configuration {
    /// All 27 cells.
    pub(crate) fn cells(self) -> Vec<Cell> {
        let own = match self {
            Self::Detector => 'd',
            Self::NoDetector => 'n',
            Self::MasqueradeAll => 'D',
            Self::MasqueradeAllNoDetector => 'N',
        };
        let rows = ROWS.trim().lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let cells: Vec<Cell> =
            rows.filter(|words| words[2].contains(own)).flat_map(|words| row(&words)).collect();
        assert_eq!(cells.len(), 27);
        cells
    }
}

fn row(words: &[&str]) -> Vec<Cell> {
    let client = match words[0] {
        "pod" => Client::Pod,
        "node" => Client::Node,
        "external" => Client::External,
        other => panic!("no client is called {other}"),
    };
    let frontend = match words[1] {
        "ClusterIP" => Frontend::ClusterIp,
        "NodePort" => Frontend::NodePort,
        "LB" => Frontend::LoadBalancerIp,
        other => panic!("no frontend is called {other}"),
    };
    let cell = |(service, word): (usize, &&str)| {
        let (backends, source) = match *word {
            "all" => (Backends::All, Source::Kept),
            "all+snat" => (Backends::All, Source::Masqueraded),
            "local" => (Backends::Local, Source::Kept),
            "local+snat" => (Backends::Local, Source::Masqueraded),
            other => panic!("no cell says {other}"),
        };
        Cell { client, frontend, service, backends, source }
    };
    words[3..].iter().enumerate().map(cell).collect()
}
