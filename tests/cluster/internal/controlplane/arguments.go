package controlplane

import (
	"fmt"
	"strings"
)

// The controllers that make or end the API objects a proxy sees. Others, the
// node lifecycle controller among them, would only get in the way of the tests.
var controllers = []string{
	"endpoints-controller", "endpointslice-controller", "endpointslice-mirroring-controller",
	"serviceaccount-controller", "serviceaccount-token-controller", "namespace-controller",
	"node-ipam-controller", "service-cidr-controller", "root-ca-certificate-publisher-controller",
	"garbage-collector-controller", "pod-garbage-collector-controller",
	"deployment-controller", "replicaset-controller", "replicationcontroller-controller", "statefulset-controller", "daemonset-controller", "job-controller",
}

func etcdArguments(dir *directory) []string {
	return []string{
		"--data-dir=" + dir.file("etcd"),
		"--client-url=unix://" + dir.file("etcd.sock"),
		"--peer-url=unix://" + dir.file("etcd-peer.sock"),
	}
}

func apiServerArguments(dir *directory, o Options) []string {
	// An address of TEST-NET-1 (RFC 5737): something must be advertised, but with
	// this reconciler it is published nowhere.
	reconciler, advertise := "none", "192.0.2.1"
	if o.AdvertiseAddress.IsValid() {
		reconciler, advertise = "lease", o.AdvertiseAddress.String()
	}
	// A fake kubelet is where the API server is, a real one on its node.
	kubelets := "ExternalDNS"
	if len(o.KubeletAddresses) > 0 {
		kubelets = "InternalIP"
	}
	return []string{
		fmt.Sprintf("--v=%d", o.Verbosity),
		"--feature-gates=" + o.FeatureGates,
		"--etcd-servers=unix://" + dir.file("etcd.sock"),
		"--bind-address=" + o.BindAddress.String(), fmt.Sprintf("--secure-port=%d", o.Port),
		"--advertise-address=" + advertise, "--endpoint-reconciler-type=" + reconciler,
		"--tls-cert-file=" + dir.file("kube-apiserver.crt"),
		"--tls-private-key-file=" + dir.file("kube-apiserver.key"),
		"--client-ca-file=" + dir.file("ca.crt"),
		"--service-account-key-file=" + dir.file("service-account.key"),
		"--service-account-signing-key-file=" + dir.file("service-account.key"),
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--authorization-mode=Node,RBAC", "--anonymous-auth=true",
		"--service-cluster-ip-range=" + join(o.ServiceCIDRs),
		"--service-node-port-range=30000-32767",
		"--allow-privileged=true",
		// TaintNodesByCondition gives every new Node a not-ready taint that only
		// the node lifecycle controller takes away again.
		"--disable-admission-plugins=TaintNodesByCondition,DefaultTolerationSeconds",
		"--enable-priority-and-fairness=false", "--profiling=false",
		"--kubelet-preferred-address-types=" + kubelets,
		"--kubelet-certificate-authority=" + dir.file("ca.crt"),
		"--kubelet-client-certificate=" + dir.file("kubelet-client.crt"),
		"--kubelet-client-key=" + dir.file("kubelet-client.key"),
	}
}

// loopArguments are what the controller manager and the scheduler share.
func loopArguments(dir *directory, name string, o Options) []string {
	kubeconfig := dir.file(kubeconfigOf(name))
	return []string{
		fmt.Sprintf("--v=%d", o.Verbosity),
		"--feature-gates=" + o.FeatureGates,
		"--kubeconfig=" + kubeconfig,
		"--authentication-kubeconfig=" + kubeconfig,
		"--authorization-kubeconfig=" + kubeconfig,
		"--secure-port=0", "--leader-elect=false",
		"--kube-api-qps=200", "--kube-api-burst=400",
	}
}

func controllerManagerArguments(dir *directory, o Options) []string {
	return append(loopArguments(dir, "kube-controller-manager", o),
		"--use-service-account-credentials=true",
		"--service-account-private-key-file="+dir.file("service-account.key"),
		"--root-ca-file="+dir.file("ca.crt"),
		"--controllers="+strings.Join(controllers, ","),
		// Nodes get a /24 and a /64, the defaults of the mask sizes.
		"--allocate-node-cidrs=true",
		"--cluster-cidr="+join(o.ClusterCIDRs),
		"--service-cluster-ip-range="+join(o.ServiceCIDRs),
	)
}

func fakeKubeletArguments(dir *directory, o Options) []string {
	return []string{
		"--kubeconfig=" + dir.file(kubeconfigOf("fake-kubelet")),
		fmt.Sprintf("--max-grace=%s", o.MaxGrace),
		fmt.Sprintf("--wait-for-runner=%t", o.WaitForRunner),
		"--exec-certificate=" + dir.file("kubelet.crt"),
		"--exec-key=" + dir.file("kubelet.key"),
		"--exec-client-ca=" + dir.file("ca.crt"),
	}
}
