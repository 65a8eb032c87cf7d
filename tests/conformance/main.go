// The program conformance is the conformance suite of ClusterNetworkPolicy, as
// the module sigs.k8s.io/network-policy-api publishes it, with a main program
// of its own: upstream's is a test binary.
//
//	conformance list               the names of the tests
//	conformance run [-test.run …]  runs them against $KUBECONFIG; all features are asked for
//
// Where the kernel has no SCTP, servers that only speak SCTP are left out: they
// could not start, and their Pods would never be ready. Whoever asks them fails.
package main

import (
	"fmt"
	"os"
	"regexp"
	"testing"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	api "sigs.k8s.io/network-policy-api/apis/v1alpha2"
	"sigs.k8s.io/network-policy-api/conformance/tests"
	"sigs.k8s.io/network-policy-api/conformance/utils/suite"
)

func main() {
	command := ""
	if len(os.Args) > 1 {
		command = os.Args[1]
		os.Args = append(os.Args[:1], os.Args[2:]...)
	}
	switch command {
	case "list":
		for _, test := range tests.ConformanceTests {
			fmt.Println(test.ShortName)
		}
	case "run":
		match := func(pattern, name string) (bool, error) { return regexp.MatchString(pattern, name) }
		// It exits by itself, with 1 when a test has failed.
		testing.Main(match, []testing.InternalTest{{Name: "CNP", F: run}}, nil, nil)
	default:
		fmt.Fprintln(os.Stderr, "usage: conformance list | run [-test.v] [-test.run CNP/NAME]")
		os.Exit(2)
	}
}

func run(t *testing.T) {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		t.Fatal(err)
	}
	// The limits of a client are meant for controllers; this one only waits.
	config.QPS, config.Burst = 100, 200
	c, err := client.New(config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := api.Install(c.Scheme()); err != nil {
		t.Fatal(err)
	}
	set, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	all := suite.New(suite.Options{
		Client:                     c,
		ClientSet:                  set,
		KubeConfig:                 *config,
		EnableAllSupportedFeatures: true,
	})
	setUp(t, all)
	all.Run(t, tests.ConformanceTests)
}
