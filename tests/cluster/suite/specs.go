package main

import (
	"flag"
	"regexp"
	"testing"

	"k8s.io/kubernetes/test/e2e"
	"k8s.io/kubernetes/test/e2e/framework"
	"k8s.io/kubernetes/test/e2e/framework/config"
	"k8s.io/kubernetes/test/e2e/framework/testfiles"
	manifests "k8s.io/kubernetes/test/e2e/testing-manifests"

	// The specs of sig-network.
	_ "k8s.io/kubernetes/test/e2e/network"
)

// specs is the main program of the upstream suite, with the specs of
// sig-network only.
func specs() int {
	testing.Init()
	config.CopyFlags(config.Flags, flag.CommandLine)
	framework.RegisterCommonFlags(flag.CommandLine)
	framework.RegisterClusterFlags(flag.CommandLine)
	flag.Parse()
	framework.AfterReadingAllFlags(&framework.TestContext)
	testfiles.AddFileSource(manifests.GetE2ETestingManifestsFS())
	match := func(pattern, name string) (bool, error) { return regexp.MatchString(pattern, name) }
	// It exits by itself, with 1 when a spec has failed.
	testing.Main(match, []testing.InternalTest{{Name: "e2e", F: e2e.RunE2ETests}}, nil, nil)
	return 0
}
