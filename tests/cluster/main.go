// The program cluster is a real Kubernetes control plane for tests in a single
// file: the upstream components, kubectl, kube-proxy and agnhost, linked from
// the published Go modules, and the little of our own that makes a cluster of
// them. See README.md.
//
// It runs the command that its name says (a link called kubectl runs kubectl)
// or else its first argument.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	// The machine's time zone files may be missing; kubectl and the components
	// then use these.
	_ "time/tzdata"

	"sluice.dev/tests/cluster/internal/component"
	"sluice.dev/tests/cluster/internal/controlplane"
	"sluice.dev/tests/cluster/internal/kubelet"
	"sluice.dev/tests/cluster/internal/nsproxy"
	"sluice.dev/tests/cluster/internal/selftest"
)

// command is one program: run sees its own arguments in os.Args[1:].
type command struct {
	name    string
	summary string
	run     func() int
}

var commands = []command{
	{"up", "run a cluster until SIGTERM", controlplane.Main},
	{"nsproxy", "make the API server reachable inside network namespaces", nsproxy.Main},
	{"selftest", "start a cluster, use it, stop it", selftest.Main},
	{"fake-kubelet", "all kubelets of the cluster; started by up", kubelet.Main},
	{"etcd", "one etcd member; started by up", component.Etcd},
	{"kube-apiserver", "upstream; started by up", component.APIServer},
	{"kube-controller-manager", "upstream; started by up", component.ControllerManager},
	{"kube-scheduler", "upstream; started by up", component.Scheduler},
	{"kube-proxy", "upstream", component.Proxy},
	{"kubectl", "upstream", component.Kubectl},
	{"agnhost", "upstream's test image: servers and clients", component.Agnhost},
}

func find(name string) (command, bool) {
	for _, c := range commands {
		if c.name == name {
			return c, true
		}
	}
	return command{}, false
}

func main() {
	if c, ok := find(filepath.Base(os.Args[0])); ok {
		os.Exit(c.run())
	}
	if len(os.Args) > 1 {
		if c, ok := find(os.Args[1]); ok {
			os.Args = os.Args[1:]
			os.Exit(c.run())
		}
	}
	fmt.Fprintln(os.Stderr, "usage: cluster COMMAND [ARGUMENTS]")
	for _, c := range commands {
		fmt.Fprintf(os.Stderr, "  %-24s %s\n", c.name, c.summary)
	}
	os.Exit(2)
}
