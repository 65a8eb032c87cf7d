// The program suite is what the upstream end-to-end specs need besides the
// control plane: the specs themselves, linked from the Kubernetes module, the
// real kubelet for the nodes of a lab, and CoreDNS. See ../README.md.
//
// It runs the command that its name says, or else its first argument.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/coredns/coredns/coremain"

	"sluice.dev/tests/cluster/internal/node"

	// The plugins of CoreDNS that a cluster's DNS is made of.
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"
)

var commands = map[string]func() int{
	"kubelet": node.Main,
	"coredns": func() int { coremain.Run(); return 0 },
	"specs":   specs,
}

func main() {
	run, found := commands[filepath.Base(os.Args[0])]
	if !found && len(os.Args) > 1 {
		if run, found = commands[os.Args[1]]; found {
			os.Args = os.Args[1:]
		}
	}
	if !found {
		fmt.Fprintln(os.Stderr, "usage: suite kubelet|coredns|specs [ARGUMENTS]")
		os.Exit(2)
	}
	if filepath.Base(os.Args[0]) != "coredns" {
		flag.CommandLine = withoutFlagsOfDNS(flag.CommandLine)
	}
	os.Exit(run())
}

// withoutFlagsOfDNS leaves out what CoreDNS registers when it is linked in; the
// specs have a few flags of the same name.
func withoutFlagsOfDNS(linked *flag.FlagSet) *flag.FlagSet {
	rest := flag.NewFlagSet(linked.Name(), flag.ExitOnError)
	linked.VisitAll(func(f *flag.Flag) {
		switch f.Name {
		case "conf", "plugins", "pidfile", "version", "quiet", "dns.port", "p":
		default:
			rest.Var(f.Value, f.Name, f.Usage)
		}
	})
	return rest
}
