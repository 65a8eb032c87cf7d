package controlplane

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"sluice.dev/tests/cluster/internal/lifeline"
)

// Options are what a test may choose about its cluster.
type Options struct {
	// Dir is the state directory; empty for a new one under the temporary directory.
	Dir string
	// Port is the API server's at BindAddress; 0 for a free one.
	Port int
	// BindAddress is where the API server listens.
	BindAddress netip.Addr
	// KubeletAddresses are where real kubelets listen, whom somebody else
	// starts; without any, one fake kubelet plays all.
	KubeletAddresses []netip.Addr
	// ServiceCIDRs and ClusterCIDRs hold one prefix, or one per address family,
	// the primary family first.
	ServiceCIDRs []netip.Prefix
	ClusterCIDRs []netip.Prefix
	// AdvertiseAddress is published as the endpoint of default/kubernetes; when
	// it is not valid, that Service has no endpoints.
	AdvertiseAddress netip.Addr
	MaxGrace         time.Duration
	WaitForRunner    bool
	FeatureGates     string
	Verbosity        int
	StopOn           lifeline.Source
	OnExit           ExitPolicy
}

// ExitPolicy says what happens when a component ends by itself.
type ExitPolicy string

const (
	// ExitFails stops the cluster with an error.
	ExitFails ExitPolicy = "fail"
	// ExitRestarts starts the component anew after a second, as a kubelet does
	// with the static Pods of a control plane. It is for tests that kill one.
	ExitRestarts ExitPolicy = "restart"
)

// String is for the flag package.
func (p *ExitPolicy) String() string { return string(*p) }

// Set is for the flag package.
func (p *ExitPolicy) Set(value string) error {
	switch policy := ExitPolicy(value); policy {
	case ExitFails, ExitRestarts:
		*p = policy
		return nil
	}
	return fmt.Errorf("want %s or %s", ExitFails, ExitRestarts)
}

// prefixes is a flag value of comma separated prefixes.
type prefixes struct{ list *[]netip.Prefix }

func (p prefixes) String() string {
	if p.list == nil {
		return ""
	}
	return join(*p.list)
}

func (p prefixes) Set(value string) error {
	var parsed []netip.Prefix
	for _, part := range strings.Split(value, ",") {
		prefix, err := netip.ParsePrefix(strings.TrimSpace(part))
		if err != nil {
			return err
		}
		parsed = append(parsed, prefix)
	}
	if len(parsed) > 2 || len(parsed) == 2 && parsed[0].Addr().Is4() == parsed[1].Addr().Is4() {
		return fmt.Errorf("want one prefix, or one of each address family")
	}
	*p.list = parsed
	return nil
}

func join(list []netip.Prefix) string {
	var parts []string
	for _, prefix := range list {
		parts = append(parts, prefix.String())
	}
	return strings.Join(parts, ",")
}

// ParseOptions reads the command line of `up`; it exits on a bad one.
func ParseOptions(arguments []string) Options {
	o := Options{
		ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd00:10:96::/112")},
		ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/56")},
		BindAddress:  netip.AddrFrom4([4]byte{127, 0, 0, 1}),
		StopOn:       lifeline.SignalsOnly,
		OnExit:       ExitFails,
	}
	flags := flag.NewFlagSet("up", flag.ExitOnError)
	flags.StringVar(&o.Dir, "dir", "", "state directory, made if missing (default: a new one under $TMPDIR)")
	flags.IntVar(&o.Port, "port", 0, "port of the API server, 0 for a free one")
	flags.TextVar(&o.BindAddress, "bind-address", o.BindAddress, "address of the API server")
	flags.Func("kubelet-addresses", "where real kubelets listen, comma separated (default: one fake kubelet plays all)", func(value string) error {
		for _, part := range strings.Split(value, ",") {
			address, err := netip.ParseAddr(strings.TrimSpace(part))
			if err != nil {
				return err
			}
			o.KubeletAddresses = append(o.KubeletAddresses, address)
		}
		return nil
	})
	flags.Var(prefixes{&o.ServiceCIDRs}, "service-cidr", "where ClusterIPs come from, one or two prefixes")
	flags.Var(prefixes{&o.ClusterCIDRs}, "cluster-cidr", "where nodes without podCIDRs get theirs from, one or two prefixes")
	flags.Func("advertise-address", "endpoint address of default/kubernetes (default: it has no endpoints)", func(value string) (err error) {
		o.AdvertiseAddress, err = netip.ParseAddr(value)
		return err
	})
	flags.DurationVar(&o.MaxGrace, "max-grace", 0, "how long a deleted Pod lives at most, 0 for its whole grace period")
	flags.BoolVar(&o.WaitForRunner, "wait-for-runner", false, "Pods run only once a pod runner says so (see README.md)")
	flags.StringVar(&o.FeatureGates, "feature-gates", "", "for the API server, the controller manager and the scheduler")
	flags.IntVar(&o.Verbosity, "v", 1, "log level of the components")
	flags.Var(&o.StopOn, "stop-on", "what ends the cluster: signals, or stdin (its end, or a signal)")
	flags.Var(&o.OnExit, "on-exit", "what to do when a component ends by itself: fail or restart")
	_ = flags.Parse(arguments) // ExitOnError: never returns one
	if flags.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "up: unexpected argument %q\n", flags.Arg(0))
		os.Exit(2)
	}
	return o
}
