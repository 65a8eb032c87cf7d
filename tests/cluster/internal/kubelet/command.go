package kubelet

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"sluice.dev/tests/cluster/internal/lifeline"
)

// Main is the command fake-kubelet; `up` starts it, with all of its flags.
func Main() int {
	flags := flag.NewFlagSet("fake-kubelet", flag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", os.Getenv("KUBECONFIG"), "how to reach the API server")
	maxGrace := flags.Duration("max-grace", 0, "how long a deleted Pod lives at most, 0 for its whole grace period")
	byRunner := flags.Bool("wait-for-runner", false, "Pods run only once they have the annotation "+AnnotationRunning)
	certificate := flags.String("exec-certificate", "", "serving certificate of the exec server; empty for no exec")
	key := flags.String("exec-key", "", "its key")
	clientCA := flags.String("exec-client-ca", "", "whose clients the exec server lets in")
	_ = flags.Parse(os.Args[1:])

	rules := Rules{Start: StartAtOnce, MaxGrace: *maxGrace}
	if *byRunner {
		rules.Start = StartByRunner
	}
	if err := serve(*kubeconfig, rules, *certificate, *key, *clientCA); err != nil {
		fmt.Fprintln(os.Stderr, "fake-kubelet:", err)
		return 1
	}
	return 0
}

func serve(kubeconfig string, rules Rules, certificate, key, clientCA string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	// It stands for many kubelets, each of which would have a budget of its own.
	config.QPS, config.Burst = 500, 1000
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	var exec *ExecListener
	if certificate != "" {
		if err := shadowPath(); err != nil {
			return err
		}
		if exec, err = NewExecListener(certificate, key, clientCA); err != nil {
			return err
		}
	}
	ctx, cancel := lifeline.Context(lifeline.SignalsOnly)
	defer cancel()
	return Run(ctx, client, rules, exec)
}

// shadowPath makes agnhost and kubectl, the links next to this program, the ones
// that exec finds.
func shadowPath() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return os.Setenv("PATH", filepath.Dir(self)+string(filepath.ListSeparator)+os.Getenv("PATH"))
}
