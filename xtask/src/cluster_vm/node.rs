//! One node: its addresses, the files that its services read, and the script that starts them in the machine.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{
    control::ControlPlane,
    network::ADDRESSES,
    parts::{BUSYBOX, Parts},
};

/// What the machine runs; it reads its variables from `node.env` beside it.
pub(super) const JOB: &str = include_str!("node.sh");
/// Where the machine sees the folder of its files.
const OUT: &str = "/mnt/kernels";

/// A node by its number, from 1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node(u8);

impl Node {
    pub(super) const fn new(number: u8) -> Self {
        Self(number)
    }

    pub(super) fn name(self) -> String {
        format!("node-{}", self.0)
    }

    /// Its device on the host.
    pub(super) fn tap(self) -> String {
        format!("tap-{}", self.0)
    }

    /// Locally administered.
    pub(super) fn mac(self) -> String {
        format!("02:00:00:00:78:{:02x}", 10 + self.0)
    }

    /// Its own, the primary family's first.
    pub(super) fn addresses(self) -> [String; 2] {
        [format!("192.168.78.{}", 10 + self.0), format!("fd00:78::{}", 10 + self.0)]
    }

    /// Of its pods.
    fn ranges(self) -> [String; 2] {
        [format!("10.244.{}.0/24", self.0), format!("fd00:10:244:{}::/64", self.0)]
    }

    /// Its object, made before its kubelet looks for it, so that it is known which range is whose.
    pub(super) fn object(self) -> String {
        let [v4, v6] = self.ranges();
        format!(
            "apiVersion: v1\nkind: Node\nmetadata:\n  name: {name}\n  labels: {{kubernetes.io/hostname: {name}, kubernetes.io/os: linux}}\n\
             spec:\n  podCIDR: {v4}\n  podCIDRs: [\"{v4}\", \"{v6}\"]\n",
            name = self.name()
        )
    }

    /// Lays its files; the answer is the folder that is [`OUT`] in the machine.
    pub(super) fn prepare(
        self,
        room: &Path,
        parts: &Parts,
        control: &ControlPlane,
        all: &[Self],
    ) -> Result<PathBuf> {
        let out = room.join("nodes").join(self.name());
        if out.exists() {
            fs::remove_dir_all(&out).with_context(|| format!("cannot empty {}", out.display()))?;
        }
        fs::create_dir_all(out.join("cni")).with_context(|| format!("cannot make {}", out.display()))?;
        let write = |name: &str, text: &str| {
            let path = out.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
        };
        write("node.env", &self.variables(parts, control, all))?;
        write("containerd.toml", &containerd(parts))?;
        write("kubelet.yaml", &kubelet(control))?;
        write("cni/10-pods.conflist", &self.plugins())?;
        Ok(out)
    }

    fn variables(self, parts: &Parts, control: &ControlPlane, all: &[Self]) -> String {
        let [v4, v6] = self.addresses();
        let images: Vec<String> = parts.images.iter().map(|path| path.display().to_string()).collect();
        let routes = all.iter().filter(|other| other.0 != self.0).flat_map(|other| {
            let pairs = other.ranges().into_iter().zip(other.addresses());
            pairs.map(|(range, address)| format!("{range},{address}")).collect::<Vec<_>>()
        });
        let lines = [
            ("NODE", self.name()),
            ("IPV4", v4),
            ("IPV6", v6),
            ("GATEWAYS", ADDRESSES.join(" ")),
            ("ROUTES", routes.collect::<Vec<_>>().join(" ")),
            ("BIN", parts.packaged("usr/bin")),
            ("SBIN", parts.packaged("usr/sbin")),
            ("KUBELET", parts.kubelet.display().to_string()),
            ("KUBECONFIG", control.file("kubelet.kubeconfig").display().to_string()),
            ("IMAGES", images.join(" ")),
        ];
        lines.map(|(name, value)| format!("{name}='{value}'\n")).concat()
    }

    /// A veth per pod and a route to each of its addresses.
    fn plugins(self) -> String {
        let [v4, v6] = self.ranges();
        let plugins = serde_json::json!({
            "cniVersion": "0.4.0",
            "name": "pods",
            "plugins": [{
                "type": "ptp",
                "ipMasq": false,
                "ipam": {
                    "type": "host-local",
                    "dataDir": "/run/cni",
                    "ranges": [[{"subnet": v4}], [{"subnet": v6}]],
                    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
                },
            }],
        });
        plugins.to_string()
    }
}

fn containerd(parts: &Parts) -> String {
    let (runc, plugins) = (parts.packaged("usr/sbin/runc"), parts.packaged("usr/lib/cni"));
    format!(
        r#"version = 2
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper"]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{BUSYBOX}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{OUT}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      BinaryName = "{runc}"
"#
    )
}

/// As kubeadm would have it, but for what needs systemd, and for a machine whose files are in memory.
fn kubelet(control: &ControlPlane) -> String {
    let file = |name: &str| control.file(name).display().to_string();
    let config = serde_json::json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": false},
            "x509": {"clientCAFile": file("ca.crt")},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "tlsCertFile": file("kubelet.crt"),
        "tlsPrivateKeyFile": file("kubelet.key"),
        "cgroupDriver": "cgroupfs",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "clusterDNS": ["10.96.0.10"],
        "clusterDomain": "cluster.local",
        "resolvConf": "",
        "failSwapOn": false,
        "evictionHard": {"memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%"},
        "imageGCHighThresholdPercent": 100,
        "runtimeRequestTimeout": "10m",
        "localStorageCapacityIsolation": false,
    });
    config.to_string()
}
