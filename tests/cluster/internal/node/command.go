// Package node is a node of the lab: the real kubelet, over a container runtime
// of our own whose containers are processes of the machine, each Pod in a
// network namespace and a cgroup that the lab makes.
//
// It does not know how Pods are connected, nor who serves Services.
package node

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"sluice.dev/tests/cluster/internal/lifeline"
)

// Options are what the lab says about one of its nodes.
type Options struct {
	// Node is the name, NodeIPs its addresses, comma separated.
	Node, NodeIPs string
	Kubeconfig    string
	// Folder is for everything that the node writes.
	Folder string
	// Programs holds the programs that images are made of.
	Programs string
	// Rooms is the unix socket on which the lab makes rooms for Pods.
	Rooms string
	// Netns and Cgroup are the node's own.
	Netns, Cgroup              string
	ClusterDNS                 string
	Certificate, Key, ClientCA string
	StopOn                     lifeline.Source
}

// Main is the command `kubelet`. It runs in the network namespace of its node
// and prints READY when the kubelet has started.
func Main() int {
	options := Options{StopOn: lifeline.SignalsOnly}
	flags := flag.NewFlagSet("kubelet", flag.ExitOnError)
	text := func(field *string, name, usage string) { flags.StringVar(field, name, "", usage) }
	text(&options.Node, "node", "name of the node")
	text(&options.NodeIPs, "node-ips", "its addresses, comma separated")
	text(&options.Kubeconfig, "kubeconfig", "credentials for the API server")
	text(&options.Folder, "folder", "where it keeps its files")
	text(&options.Programs, "programs", "folder of the programs that images are made of")
	text(&options.Rooms, "rooms", "unix socket of the lab, which makes rooms for Pods")
	text(&options.Netns, "netns", "file of the node's network namespace")
	text(&options.Cgroup, "cgroup", "cgroup2 folder for Pods on the node's network")
	text(&options.ClusterDNS, "cluster-dns", "address of the cluster's DNS")
	text(&options.Certificate, "certificate", "of the kubelet's server")
	text(&options.Key, "key", "of the kubelet's server")
	text(&options.ClientCA, "client-ca", "who may ask the kubelet's server")
	flags.Var(&options.StopOn, "stop-on", "what ends it: signals, or stdin (its end, or a signal)")
	_ = flags.Parse(os.Args[1:]) // ExitOnError: never returns one
	ctx, cancel := lifeline.Context(options.StopOn)
	defer cancel()
	own := room{Netns: options.Netns, Cgroup: options.Cgroup}
	runtime := newService(landlord{socket: options.Rooms, node: options.Node, own: own}, filepath.Join(options.Folder, "containers"), options.Programs)
	if err := runtime.openStreams(); err != nil {
		fmt.Fprintln(os.Stderr, "kubelet:", err)
		return 1
	}
	if err := runKubelet(ctx, options, runtime); err != nil {
		fmt.Fprintln(os.Stderr, "kubelet:", err)
		return 1
	}
	fmt.Printf("READY node=%s\n", options.Node)
	<-ctx.Done()
	return 0
}
