package controlplane

import (
	"net/netip"
	"slices"
	"testing"
)

func TestOnePrefixOrOneOfEachFamilyIsTaken(t *testing.T) {
	for value, accepted := range map[string]bool{
		"10.96.0.0/16":                   true,
		"fd00::/112, 10.96.0.0/16":       true,
		"10.96.0.0/16,10.97.0.0/16":      false,
		"10.96.0.0/16,fd00::/112,fd01::": false,
		"10.96.0.0":                      false,
		"":                               false,
	} {
		var list []netip.Prefix
		if err := (prefixes{&list}).Set(value); (err == nil) != accepted {
			t.Errorf("%q: got %v, error %v", value, list, err)
		}
	}
}

func TestTheAPIServerIsKnownByTheFirstAddressOfEachServiceRange(t *testing.T) {
	hosts := serverHosts(
		[]netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd00:10:96::/112")},
		netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("192.0.2.8"))
	for _, want := range []string{"10.96.0.1", "fd00:10:96::1", "127.0.0.1", "192.0.2.7", "192.0.2.8", "kubernetes.default.svc"} {
		if !slices.Contains(hosts, want) {
			t.Errorf("%s is not among %v", want, hosts)
		}
	}
}
