// Package controlplane runs a Kubernetes control plane as a family of processes
// of this program: etcd, kube-apiserver, kube-controller-manager, kube-scheduler
// and the fake kubelet. Only the API server and the exec server listen on TCP,
// both on 127.0.0.1, so that clusters run side by side.
//
// It does not know what the nodes are or how traffic flows between them.
package controlplane

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"sluice.dev/tests/cluster/internal/lifeline"
)

// How long a component that ended by itself stays away (ExitRestarts).
const restartDelay = time.Second

// Main is the command `up`. It prints one line that starts with READY when the
// cluster can be used, and stops everything on SIGTERM.
func Main() int {
	options := ParseOptions(os.Args[1:])
	runtime.LockOSThread() // see family
	ctx, cancel := lifeline.Context(options.StopOn)
	defer cancel()
	if err := Run(ctx, options); err != nil {
		fmt.Fprintln(os.Stderr, "up:", err)
		return 1
	}
	return 0
}

// Run starts a cluster and keeps it until ctx ends, which is no error, or a
// component does.
func Run(ctx context.Context, options Options) error {
	dir, err := openDirectory(options.Dir)
	if err != nil {
		return err
	}
	if options.Port == 0 {
		if options.Port, err = freePort(options.BindAddress); err != nil {
			return err
		}
	}
	server := fmt.Sprintf("https://%s", netip.AddrPortFrom(options.BindAddress, uint16(options.Port)))
	hosts := serverHosts(options.ServiceCIDRs, options.AdvertiseAddress, options.BindAddress)
	if err := writeIdentities(dir, server, hosts, kubeletHosts(options.KubeletAddresses)); err != nil {
		return err
	}
	processes := newFamily(dir)
	defer processes.stop()
	if err := start(ctx, processes, options); err != nil {
		if ctx.Err() != nil {
			return nil // told to stop while starting
		}
		return err
	}
	if err := dir.announce(server); err != nil {
		return err
	}
	defer os.Remove(dir.file(readyFile))
	fmt.Printf("READY dir=%s kubeconfig=%s server=%s\n", dir.path, dir.file(kubeconfigOf("admin")), server)
	return watch(ctx, processes, options.OnExit)
}

// start returns when Pods and Services can be created and will be acted upon.
func start(ctx context.Context, processes *family, options Options) error {
	clock := newStopwatch()
	dir := processes.dir
	if _, err := processes.start("etcd", etcdArguments(dir)...); err != nil {
		return err
	}
	if err := processes.await(ctx, etcdHealthy(dir)); err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	clock.lap("etcd is healthy")

	if _, err := processes.start("kube-apiserver", apiServerArguments(dir, options)...); err != nil {
		return err
	}
	client, err := adminClient(dir)
	if err != nil {
		return err
	}
	if err := processes.await(ctx, apiServerReady(client)); err != nil {
		return fmt.Errorf("kube-apiserver: %w", err)
	}
	clock.lap("kube-apiserver is ready")

	if _, err := processes.start("kube-controller-manager", controllerManagerArguments(dir, options)...); err != nil {
		return err
	}
	if _, err := processes.start("kube-scheduler", loopArguments(dir, "kube-scheduler", options)...); err != nil {
		return err
	}
	if len(options.KubeletAddresses) == 0 {
		if _, err := processes.start("fake-kubelet", fakeKubeletArguments(dir, options)...); err != nil {
			return err
		}
	}
	if err := grantAgentRole(ctx, client); err != nil {
		return fmt.Errorf("role of the agents: %w", err)
	}
	// Without it Pods are refused; with it the controller manager is at work.
	if err := processes.await(ctx, defaultServiceAccount(client)); err != nil {
		return fmt.Errorf("kube-controller-manager: %w", err)
	}
	clock.lap("kube-controller-manager is at work")
	return nil
}

// watch returns when ctx ends or, unless they are restarted, a component does.
func watch(ctx context.Context, processes *family, policy ExitPolicy) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case ended := <-processes.exits:
			err := processes.obituary(ended)
			if policy == ExitFails {
				return err
			}
			fmt.Fprintln(os.Stderr, "up: restart:", err)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(restartDelay):
			}
			if err := processes.launch(ended); err != nil {
				return fmt.Errorf("restart %s: %w", ended.name, err)
			}
		}
	}
}

func adminClient(dir *directory) (kubernetes.Interface, error) {
	config, err := clientcmd.BuildConfigFromFlags("", dir.file(kubeconfigOf("admin")))
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst = 500, 1000
	return kubernetes.NewForConfig(config)
}

// freePort answers a port that nobody has at the moment. The API server cannot
// be handed a listener, so somebody else may take it before it does; then it
// ends, and says so.
func freePort(address netip.Addr) (int, error) {
	listener, err := net.Listen("tcp", netip.AddrPortFrom(address, 0).String())
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

// stopwatch prints when each step of the start was done.
type stopwatch struct{ began time.Time }

func newStopwatch() stopwatch { return stopwatch{time.Now()} }

func (s stopwatch) lap(what string) { fmt.Printf("%6.2fs %s\n", time.Since(s.began).Seconds(), what) }
