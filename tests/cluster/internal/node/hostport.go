package node

import (
	"bytes"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// hostPort is one port of the node that leads to a Pod, as the portmap plugin
// of the usual CNI chain makes it. It is the work of the Pod network, not of
// the proxy.
type hostPort struct {
	handle   string
	protocol string
	host     string // address of the node, empty for all
	port     int32
	to       netip.AddrPort
}

// Only packets to the node itself are looked at, and what a Pod asks of its own
// host port is masqueraded, so that its answer passes the node again.
const hostPortRules = `
table inet lab-hostports {
	chain prerouting { type nat hook prerouting priority -110; fib daddr type local jump ports; }
	chain output { type nat hook output priority -110; fib daddr type local jump ports; }
	chain postrouting { type nat hook postrouting priority 90; ct status dnat ip saddr 127.0.0.0/8 masquerade; ct mark 0x20000 masquerade; }
	chain ports { }
}
`

// openPorts writes the rules for the Pod's host ports, if it has any.
func (s *sandbox) openPorts(netns string) error {
	for _, mapping := range s.config.PortMappings {
		if mapping.HostPort == 0 {
			continue
		}
		for _, ip := range s.room.IPs {
			address, err := netip.ParseAddr(ip)
			if err != nil {
				return err
			}
			port, fits := hostPortOf(mapping, address)
			if !fits {
				continue
			}
			port.handle = s.id
			s.ports = append(s.ports, port)
		}
	}
	if len(s.ports) == 0 {
		return nil
	}
	var rules strings.Builder
	for _, port := range s.ports {
		rules.WriteString(port.rule())
	}
	return onThread(func() error {
		if err := enterNetns(netns, s.host); err != nil {
			return err
		}
		if err := nft("add table inet lab-hostports"); err != nil {
			return err
		}
		if err := nft("list chain inet lab-hostports ports"); err != nil {
			if err := nft(hostPortRules); err != nil {
				return err
			}
		}
		return nft(rules.String())
	})
}

// closePorts removes them.
func (s *sandbox) closePorts(netns string) error {
	if len(s.ports) == 0 {
		return nil
	}
	return onThread(func() error {
		if err := enterNetns(netns, s.host); err != nil {
			return err
		}
		out, err := exec.Command("nft", "-a", "list", "chain", "inet", "lab-hostports", "ports").Output()
		if err != nil {
			return err
		}
		for _, line := range strings.Split(string(out), "\n") {
			if rule, handle, found := strings.Cut(line, " # handle "); found && strings.Contains(rule, s.id) {
				if err := nft("delete rule inet lab-hostports ports handle " + handle); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func hostPortOf(mapping *runtimeapi.PortMapping, pod netip.Addr) (hostPort, bool) {
	host := mapping.HostIp
	if host == "0.0.0.0" || host == "::" {
		host = ""
	}
	if wanted, err := netip.ParseAddr(host); err == nil && wanted.Is4() != pod.Is4() {
		return hostPort{}, false
	}
	protocol := strings.ToLower(mapping.Protocol.String())
	return hostPort{protocol: protocol, host: host, port: mapping.HostPort, to: netip.AddrPortFrom(pod, uint16(mapping.ContainerPort))}, true
}

func (p hostPort) rule() string {
	family := "ip"
	if p.to.Addr().Is6() {
		family = "ip6"
	}
	var match strings.Builder
	if p.host != "" {
		fmt.Fprintf(&match, "%s daddr %s ", family, p.host)
	} else {
		fmt.Fprintf(&match, "meta nfproto %s ", map[string]string{"ip": "ipv4", "ip6": "ipv6"}[family])
	}
	fmt.Fprintf(&match, "%s dport %d", p.protocol, p.port)
	return fmt.Sprintf("add rule inet lab-hostports ports %s %s saddr %s ct mark set 0x20000 comment \"%s\"\n"+
		"add rule inet lab-hostports ports %s dnat %s to %s comment \"%s\"\n",
		match.String(), family, p.to.Addr(), p.handle, match.String(), family, p.to, p.handle)
}

func nft(rules string) error {
	command := exec.Command("nft", "-f", "-")
	command.Stdin = strings.NewReader(rules)
	var said bytes.Buffer
	command.Stderr = &said
	if err := command.Run(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, said.String())
	}
	return nil
}
