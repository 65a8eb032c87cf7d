// Package selftest checks one cluster end to end: the program starts itself as
// `up`, uses the cluster the way the lab does, pod runner included, and stops
// it. Every step says how long it took.
//
// It needs root, for network namespaces, and a cgroup2 mount.
package selftest

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime"
	"time"

	"sluice.dev/tests/cluster/internal/lifeline"
)

// step is one thing that must hold.
type step struct {
	name string
	run  func(context.Context, *fixture) error
}

// In this order: later steps stand on what earlier ones have made.
var steps = []step{
	{"the cluster starts", startCluster},
	{"nodes get addresses and podCIDRs of both families", createNodes},
	{"a Deployment is scheduled, and its Pods get addresses but wait for a runner", createWorkload},
	{"the endpoints of waiting Pods are there, and not ready", endpointsNotReady},
	{"Pods that the runner has stood up become ready endpoints of both families", standUp},
	{"kubectl sees the Pods", kubectlGet},
	{"exec runs in the Pod's network namespace under the Pod's name", execInPod},
	{"exec puts the command into the Pod's cgroup", execInCgroup},
	{"exec passes input in and the exit code out", execPipes},
	{"the API server is reachable inside a namespace under its own address", reachInside},
	{"the agent may read what it plans from, and nothing else", agentRights},
	{"a Deployment of no replicas leaves no endpoints", scaleDown},
	{"a second cluster in the same directory is refused", refuseSecond},
	{"the end of stdin stops all processes", stopCluster},
	{"the death of up takes all processes along", killCluster},
}

// Main is the command: selftest [--keep].
func Main() int {
	flags := flag.NewFlagSet("selftest", flag.ExitOnError)
	keep := flags.Bool("keep", false, "keep the state directory with the logs")
	_ = flags.Parse(os.Args[1:])
	runtime.LockOSThread() // the children of this thread die with it
	ctx, cancel := lifeline.Context(lifeline.SignalsOnly)
	defer cancel()
	if err := run(ctx, *keep); err != nil {
		fmt.Fprintln(os.Stderr, "selftest:", err)
		return 1
	}
	return 0
}

func run(ctx context.Context, keep bool) error {
	fixture, err := newFixture()
	if err != nil {
		return err
	}
	defer fixture.close()
	if keep {
		fmt.Println("state directory:", fixture.dir)
	} else {
		defer os.RemoveAll(fixture.dir)
	}
	began := time.Now()
	for _, step := range steps {
		start := time.Now()
		if err := step.run(ctx, fixture); err != nil {
			fmt.Printf("FAIL %6.2fs %s\n", time.Since(start).Seconds(), step.name)
			return err
		}
		fmt.Printf("ok   %6.2fs %s\n", time.Since(start).Seconds(), step.name)
	}
	fmt.Printf("%d passed in %.1fs\n", len(steps), time.Since(began).Seconds())
	return nil
}
