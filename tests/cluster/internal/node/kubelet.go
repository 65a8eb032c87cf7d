package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	cadvisorapi "github.com/google/cadvisor/info/v1"
	tracing "go.opentelemetry.io/otel/trace/noop"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/record"
	kubeletapp "k8s.io/kubernetes/cmd/kubelet/app"
	"k8s.io/kubernetes/cmd/kubelet/app/options"
	"k8s.io/kubernetes/pkg/kubelet"
	kubeletconfig "k8s.io/kubernetes/pkg/kubelet/apis/config"
	cadvisor "k8s.io/kubernetes/pkg/kubelet/cadvisor/testing"
	"k8s.io/kubernetes/pkg/kubelet/cm"
	kubeletutil "k8s.io/kubernetes/pkg/kubelet/util"
	"k8s.io/kubernetes/pkg/util/oom"
	"k8s.io/kubernetes/pkg/volume"
	"k8s.io/kubernetes/pkg/volume/configmap"
	"k8s.io/kubernetes/pkg/volume/downwardapi"
	"k8s.io/kubernetes/pkg/volume/emptydir"
	"k8s.io/kubernetes/pkg/volume/hostpath"
	"k8s.io/kubernetes/pkg/volume/projected"
	"k8s.io/kubernetes/pkg/volume/secret"
	"k8s.io/kubernetes/pkg/volume/util/hostutil"
	"k8s.io/kubernetes/pkg/volume/util/subpath"
	"k8s.io/mount-utils"
)

// kubeletPort is where API servers expect kubelets.
const kubeletPort = 10250

// machine answers the kubelet's questions about the hardware: there is room for
// all Pods, and no counters of containers.
type machine struct{ cadvisor.Fake }

func (machine) MachineInfo() (*cadvisorapi.MachineInfo, error) {
	return &cadvisorapi.MachineInfo{NumCores: 64, MemoryCapacity: 256 << 30, MachineID: "lab", SystemUUID: "lab", BootID: "lab"}, nil
}

// files are the machine's, but mounts of the kubelet's folder are nobody else's:
// the folder is not made a shared mount, which would outlive the kubelet.
type files struct{ *hostutil.HostUtil }

func (files) MakeRShared(string) error { return nil }

// runKubelet starts the kubelet; it works until the process ends.
func runKubelet(ctx context.Context, o Options, runtime *service) error {
	client, heartbeats, err := clients(o)
	if err != nil {
		return err
	}
	tlsConfig, err := serverTLS(o)
	if err != nil {
		return err
	}
	flags, config, err := configure(o)
	if err != nil {
		return err
	}
	var volumes []volume.VolumePlugin
	for _, plugins := range [][]volume.VolumePlugin{
		emptydir.ProbeVolumePlugins(), hostpath.ProbeVolumePlugins(volume.VolumeConfig{}), secret.ProbeVolumePlugins(),
		downwardapi.ProbeVolumePlugins(), configmap.ProbeVolumePlugins(), projected.ProbeVolumePlugins(),
	} {
		volumes = append(volumes, plugins...)
	}
	return kubeletapp.RunKubelet(ctx, &options.KubeletServer{KubeletFlags: *flags, KubeletConfiguration: *config}, &kubelet.Dependencies{
		KubeClient:           client,
		HeartbeatClient:      heartbeats,
		RemoteRuntimeService: runtime,
		RemoteImageService:   imageService{},
		CAdvisorInterface:    &machine{},
		// Containers are in cgroups that the runtime makes; no resource is limited.
		ContainerManager: cm.NewStubContainerManager(),
		VolumePlugins:    volumes,
		TLSConfig:        tlsConfig,
		OOMAdjuster:      oom.NewFakeOOMAdjuster(),
		// Volumes are plain folders: what would be mounted goes with the folder.
		Mounter:                   &mount.FakeMounter{},
		Subpather:                 &subpath.FakeSubpath{},
		HostUtil:                  files{hostutil.NewHostUtil()},
		PodStartupLatencyTracker:  kubeletutil.NewPodStartupLatencyTracker(),
		NodeStartupLatencyTracker: kubeletutil.NewNodeStartupLatencyTracker(),
		TracerProvider:            tracing.NewTracerProvider(),
		// A real one would read the kernel's log for the ends of processes.
		Recorder: &record.FakeRecorder{},
	})
}

func clients(o Options) (client, heartbeats *kubernetes.Clientset, err error) {
	config, err := clientcmd.BuildConfigFromFlags("", o.Kubeconfig)
	if err != nil {
		return nil, nil, err
	}
	config.QPS, config.Burst = 50, 100
	if client, err = kubernetes.NewForConfig(config); err != nil {
		return nil, nil, err
	}
	pulse := rest.CopyConfig(config)
	pulse.Timeout = 10 * time.Second
	heartbeats, err = kubernetes.NewForConfig(pulse)
	return client, heartbeats, err
}

// serverTLS admits the API server and nobody else.
func serverTLS(o Options) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(o.Certificate, o.Key)
	if err != nil {
		return nil, err
	}
	authority, err := os.ReadFile(o.ClientCA)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authority) {
		return nil, fmt.Errorf("%s holds no certificate", o.ClientCA)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12}, nil
}

func configure(o Options) (*options.KubeletFlags, *kubeletconfig.KubeletConfiguration, error) {
	flags := options.NewKubeletFlags()
	flags.RootDirectory = filepath.Join(o.Folder, "kubelet")
	flags.CertDirectory = filepath.Join(o.Folder, "pki")
	flags.HostnameOverride = o.Node
	flags.NodeIP = o.NodeIPs
	flags.MaxPerPodContainerCount, flags.MaxContainerCount = 2, 200
	flags.MinimumGCAge = metav1.Duration{Duration: 10 * time.Second}
	for _, folder := range []string{flags.RootDirectory, flags.CertDirectory} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return nil, nil, err
		}
	}
	config, err := options.NewKubeletConfiguration()
	if err != nil {
		return nil, nil, err
	}
	config.Address, config.Port, config.ReadOnlyPort = net.IPv4zero.String(), kubeletPort, 0
	config.EnableServer, config.EnableDebuggingHandlers = true, true
	config.PodLogsDir = filepath.Join(o.Folder, "logs")
	config.ClusterDNS, config.ClusterDomain = []string{o.ClusterDNS}, "cluster.local"
	// The machine's own resolver is not reachable from the lab.
	config.ResolverConfig = ""
	config.CgroupsPerQOS, config.CgroupRoot = false, ""
	config.EnforceNodeAllocatable = nil
	config.EvictionHard = map[string]string{}
	config.ImageGCHighThresholdPercent, config.ImageGCLowThresholdPercent = 100, 99
	config.MaxPods = 250
	config.LocalStorageCapacityIsolation = false
	config.SerializeImagePulls = false
	// Words that a suite waits for should not wait for the usual period.
	config.SyncFrequency.Duration = 10 * time.Second
	config.NodeStatusUpdateFrequency.Duration = 5 * time.Second
	config.NodeStatusReportFrequency.Duration = time.Minute
	return flags, config, nil
}
