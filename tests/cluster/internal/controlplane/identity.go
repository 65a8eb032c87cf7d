package controlplane

import (
	"net/netip"

	"sluice.dev/tests/cluster/internal/pki"
)

// AgentUser is the identity of Sluice's agents; agentRole says what it may do.
const AgentUser = "sluice-agent"

// identity is one user of the API and the name of its kubeconfig.
type identity struct {
	file   string
	user   string
	groups []string
}

// The groups and users starting with "system:" are those that the API server's
// built-in roles speak of.
var identities = []identity{
	{"admin", "admin", []string{"system:masters"}},
	{"kube-controller-manager", "system:kube-controller-manager", nil},
	{"kube-scheduler", "system:kube-scheduler", nil},
	{"kube-proxy", "system:kube-proxy", nil},
	{"fake-kubelet", "fake-kubelet", []string{"system:masters"}},
	{"kubelet", "kubelet", []string{"system:masters"}},
	{"sluice", AgentUser, nil},
}

func kubeconfigOf(name string) string { return name + ".kubeconfig" }

// writeIdentities makes all keys, certificates and kubeconfigs of the cluster.
func writeIdentities(dir *directory, server string, hosts, kubelets []string) error {
	authority, err := pki.NewAuthority("lab")
	if err != nil {
		return err
	}
	if err := dir.write("ca.crt", authority.PEM); err != nil {
		return err
	}
	tokens, err := pki.NewKey()
	if err != nil {
		return err
	}
	if err := dir.write("service-account.key", tokens.Key); err != nil {
		return err
	}
	pairs := map[string]func() (pki.Pair, error){
		"kube-apiserver": func() (pki.Pair, error) { return authority.Server("kube-apiserver", hosts...) },
		"kubelet":        func() (pki.Pair, error) { return authority.Server("kubelet", kubelets...) },
		// By which the API server asks kubelets to exec.
		"kubelet-client": func() (pki.Pair, error) { return authority.Client("kube-apiserver", "system:masters") },
	}
	for name, issue := range pairs {
		pair, err := issue()
		if err != nil {
			return err
		}
		if err := dir.write(name+".crt", pair.Certificate); err != nil {
			return err
		}
		if err := dir.write(name+".key", pair.Key); err != nil {
			return err
		}
	}
	for _, who := range identities {
		if err := authority.WriteKubeconfig(dir.file(kubeconfigOf(who.file)), server, who.user, who.groups...); err != nil {
			return err
		}
	}
	return nil
}

// serverHosts are the names and addresses by which the API server is reached:
// from the machine, through nsproxy, and as the Service default/kubernetes.
func serverHosts(serviceCIDRs []netip.Prefix, advertised, bound netip.Addr) []string {
	hosts := []string{
		"127.0.0.1", "::1", "localhost",
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
	}
	for _, prefix := range serviceCIDRs {
		// default/kubernetes has the first address of each range.
		hosts = append(hosts, prefix.Masked().Addr().Next().String())
	}
	for _, address := range []netip.Addr{advertised, bound} {
		if address.IsValid() {
			hosts = append(hosts, address.String())
		}
	}
	return hosts
}

// kubeletHosts are the names and addresses by which the API server reaches
// kubelets.
func kubeletHosts(real []netip.Addr) []string {
	hosts := []string{"localhost", "127.0.0.1"}
	for _, address := range real {
		hosts = append(hosts, address.String())
	}
	return hosts
}
