// Package component holds the command line programs that are not ours: the
// Kubernetes components, etcd and agnhost, each as a function that runs it with
// os.Args and answers the exit code.
//
// Call at most one of them per process. Feature gates, flag sets and metrics
// are process globals in Kubernetes, and it is the construction of a component's
// command that touches them; linking all of them together does no harm.
//
// The package does not know how the programs are put together into a cluster.
package component

import (
	"os"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	kubectlcmd "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	kubeproxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"

	// What the components' own main packages import for its side effects.
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
)

// run is what the main functions of the upstream components do.
func run(command *cobra.Command) int { return cli.Run(command) }

// APIServer runs kube-apiserver.
func APIServer() int { return run(apiserver.NewAPIServerCommand()) }

// ControllerManager runs kube-controller-manager.
func ControllerManager() int { return run(controllermanager.NewControllerManagerCommand()) }

// Scheduler runs kube-scheduler.
func Scheduler() int { return run(scheduler.NewSchedulerCommand()) }

// Proxy runs kube-proxy, against which Sluice is compared.
func Proxy() int { return run(kubeproxy.NewProxyCommand()) }

// Kubectl runs kubectl.
func Kubectl() int {
	// The verbosity must be known before flags are parsed; a bad value is
	// reported again, and better, by the parsing itself.
	_, _ = logs.GlogSetter(kubectlcmd.GetLogVerbosity(os.Args))
	if err := cli.RunNoErrOutput(kubectlcmd.NewDefaultKubectlCommand()); err != nil {
		kubectlutil.CheckErr(err) // prints and exits
	}
	return 0
}
