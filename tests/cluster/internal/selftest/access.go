package selftest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sluice.dev/tests/cluster/internal/netns"
)

func kubectlGet(ctx context.Context, f *fixture) error {
	out, err := f.kubectl(ctx, "", "get", "pods", "-l", "app=web", "-o", "name")
	if err != nil {
		return err
	}
	pods, err := f.pods(ctx)
	if err != nil {
		return err
	}
	var want []string
	for _, pod := range pods {
		want = append(want, "pod/"+pod.Name)
	}
	got := strings.Fields(out)
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		return fmt.Errorf("kubectl prints %v, the API has %v", got, want)
	}
	return nil
}

func execInPod(ctx context.Context, f *fixture) error {
	pods, err := f.pods(ctx)
	if err != nil {
		return err
	}
	where, err := os.Readlink(f.netns)
	if err != nil {
		return err
	}
	name := pods[0].Name
	out, err := f.kubectl(ctx, "", "exec", name, "--", "sh", "-c", "readlink /proc/self/ns/net; cat /proc/sys/kernel/hostname")
	if err != nil {
		return err
	}
	if want := where + "\n" + name + "\n"; out != want {
		return fmt.Errorf("exec answers %q, want %q", out, want)
	}
	return nil
}

func execInCgroup(ctx context.Context, f *fixture) error {
	pods, err := f.pods(ctx)
	if err != nil {
		return err
	}
	out, err := f.kubectl(ctx, "", "exec", pods[0].Name, "--", "cat", "/proc/self/cgroup")
	if err != nil {
		return err
	}
	// The line of cgroup2 is the one of hierarchy 0; see cgroups(7).
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "0::") && filepath.Base(strings.TrimSpace(line)) == filepath.Base(f.cgroup) {
			return nil
		}
	}
	return fmt.Errorf("exec's command is in %q, want %s", out, f.cgroup)
}

func execPipes(ctx context.Context, f *fixture) error {
	pods, err := f.pods(ctx)
	if err != nil {
		return err
	}
	out, err := f.kubectl(ctx, "some input\n", "exec", "-i", pods[0].Name, "--", "sh", "-c", "cat; exit 7")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 7 || out != "some input\n" {
		return fmt.Errorf("exec answers %q and %v, want the input and exit code 7", out, err)
	}
	return nil
}

// reachInside runs kubectl in a namespace that has nothing but a loopback, with
// the kubeconfig unchanged.
func reachInside(ctx context.Context, f *fixture) error {
	proxy := self("nsproxy", "--to", f.server, f.netns+"="+f.server)
	proxy.Stderr = os.Stderr
	if err := proxy.Start(); err != nil {
		return err
	}
	defer func() {
		_ = proxy.Process.Kill()
		_ = proxy.Wait()
	}()
	return eventually(ctx, func() error {
		return netns.Do(f.netns, func() error {
			out, err := f.kubectl(ctx, "", "get", "--raw", "/readyz")
			if err == nil && out != "ok" {
				err = fmt.Errorf("/readyz answers %q", out)
			}
			return err
		})
	})
}

func agentRights(ctx context.Context, f *fixture) error {
	agent, err := f.clientOf("sluice")
	if err != nil {
		return err
	}
	all := metav1.ListOptions{}
	core, network := agent.CoreV1(), agent.NetworkingV1()
	reads := map[string]func() error{
		"services":        func() error { _, err := core.Services("").List(ctx, all); return err },
		"nodes":           func() error { _, err := core.Nodes().List(ctx, all); return err },
		"namespaces":      func() error { _, err := core.Namespaces().List(ctx, all); return err },
		"pods":            func() error { _, err := core.Pods("").List(ctx, all); return err },
		"endpointslices":  func() error { _, err := agent.DiscoveryV1().EndpointSlices("").List(ctx, all); return err },
		"networkpolicies": func() error { _, err := network.NetworkPolicies("").List(ctx, all); return err },
		"servicecidrs":    func() error { _, err := network.ServiceCIDRs().List(ctx, all); return err },
	}
	for what, read := range reads {
		if err := read(); err != nil {
			return fmt.Errorf("list %s: %w", what, err)
		}
	}
	if _, err := core.Secrets("").List(ctx, all); !apierrors.IsForbidden(err) {
		return fmt.Errorf("list secrets was answered with %v, want Forbidden", err)
	}
	if err := core.Pods(namespace).Delete(ctx, "any", metav1.DeleteOptions{}); !apierrors.IsForbidden(err) {
		return fmt.Errorf("delete of a Pod was answered with %v, want Forbidden", err)
	}
	return nil
}
