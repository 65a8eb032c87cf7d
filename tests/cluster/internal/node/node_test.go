package node

import (
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestAnImageIsKnownByTheLastPartOfItsName(t *testing.T) {
	for reference, want := range map[string]string{
		"registry.k8s.io/e2e-test-images/agnhost:2.63.0": "agnhost",
		"localhost:5000/busybox@sha256:0":                "busybox",
		"coredns":                                        "coredns",
	} {
		if got := imageName(reference); got != want {
			t.Errorf("%s: got %s, want %s", reference, got, want)
		}
	}
}

func TestACommandIsThePodsOrElseTheImages(t *testing.T) {
	for _, c := range []struct{ command, arguments, want []string }{
		{nil, nil, []string{"/agnhost", "pause"}},
		{nil, []string{"netexec"}, []string{"/agnhost", "netexec"}},
		{[]string{"sh"}, []string{"-c", "x"}, []string{"sh", "-c", "x"}},
	} {
		one := &container{image: images["agnhost"], config: &runtimeapi.ContainerConfig{Command: c.command, Args: c.arguments}}
		if got := one.command(); !slices.Equal(got, c.want) {
			t.Errorf("%v %v: got %v, want %v", c.command, c.arguments, got, c.want)
		}
	}
}

func TestAPodsResolverIsWhatTheKubeletSays(t *testing.T) {
	box := &sandbox{config: &runtimeapi.PodSandboxConfig{DnsConfig: &runtimeapi.DNSConfig{
		Servers: []string{"10.96.0.10"}, Searches: []string{"a.svc", "svc"}, Options: []string{"ndots:5"},
	}}}
	if got, want := box.resolver(), "search a.svc svc\nnameserver 10.96.0.10\noptions ndots:5\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAHostPortIsOnlyOfTheFamilyOfItsAddress(t *testing.T) {
	four, six := netip.MustParseAddr("10.244.1.2"), netip.MustParseAddr("fd00:10:244:1::2")
	mapping := &runtimeapi.PortMapping{Protocol: runtimeapi.Protocol_UDP, HostPort: 54323, ContainerPort: 8080, HostIp: "172.18.0.11"}
	if _, fits := hostPortOf(mapping, six); fits {
		t.Error("an IPv4 address of the node leads to an IPv6 address of the Pod")
	}
	port, fits := hostPortOf(mapping, four)
	if !fits {
		t.Fatal("the Pod's IPv4 address is left out")
	}
	if rule := port.rule(); !strings.Contains(rule, "ip daddr 172.18.0.11 udp dport 54323 dnat ip to 10.244.1.2:8080") {
		t.Errorf("no such rule: %s", rule)
	}
}

func TestAnExitCodeIsWhatAShellWouldSay(t *testing.T) {
	for script, want := range map[string]int{"exit 3": 3, "kill -TERM $$": 143, "true": 0} {
		if got := exitCode(exec.Command("sh", "-c", script).Run()); got != want {
			t.Errorf("%s: got %d, want %d", script, got, want)
		}
	}
}
