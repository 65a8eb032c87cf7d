package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// sandbox is the place of one Pod.
type sandbox struct {
	id      string
	config  *runtimeapi.PodSandboxConfig
	room    room
	host    string
	created time.Time
	ready   bool
	ports   []hostPort
}

func onNode(config *runtimeapi.PodSandboxConfig) bool {
	return config.GetLinux().GetSecurityContext().GetNamespaceOptions().GetNetwork() == runtimeapi.NamespaceMode_NODE
}

// resolver is the content of /etc/resolv.conf.
func (s *sandbox) resolver() string {
	dns := s.config.DnsConfig
	if dns == nil || len(dns.Servers)+len(dns.Searches)+len(dns.Options) == 0 {
		return ""
	}
	var text strings.Builder
	if len(dns.Searches) > 0 {
		fmt.Fprintf(&text, "search %s\n", strings.Join(dns.Searches, " "))
	}
	for _, server := range dns.Servers {
		fmt.Fprintf(&text, "nameserver %s\n", server)
	}
	if len(dns.Options) > 0 {
		fmt.Fprintf(&text, "options %s\n", strings.Join(dns.Options, " "))
	}
	return text.String()
}

// tune writes the sysctls of the Pod's network. A Pod may listen on any port and
// send pings whoever runs in it, as with the usual container runtimes.
func (s *sandbox) tune() error {
	settings := map[string]string{"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}
	for name, value := range s.config.GetLinux().GetSysctls() {
		settings[name] = value
	}
	return onThread(func() error {
		if err := enterNetns(s.room.Netns, s.host); err != nil {
			return err
		}
		for name, value := range settings {
			// Resolved for the thread that opens it.
			path := filepath.Join("/proc/sys", strings.ReplaceAll(name, ".", "/"))
			if err := os.WriteFile(path, []byte(value), 0o644); err != nil && !os.IsNotExist(err) {
				return err
			}
		}
		return nil
	})
}

func (s *sandbox) state() runtimeapi.PodSandboxState {
	if s.ready {
		return runtimeapi.PodSandboxState_SANDBOX_READY
	}
	return runtimeapi.PodSandboxState_SANDBOX_NOTREADY
}

func (s *sandbox) summary() *runtimeapi.PodSandbox {
	return &runtimeapi.PodSandbox{
		Id: s.id, Metadata: s.config.Metadata, State: s.state(), CreatedAt: s.created.UnixNano(),
		Labels: s.config.Labels, Annotations: s.config.Annotations,
	}
}

func (s *sandbox) status() *runtimeapi.PodSandboxStatus {
	status := &runtimeapi.PodSandboxStatus{
		Id: s.id, Metadata: s.config.Metadata, State: s.state(), CreatedAt: s.created.UnixNano(),
		Labels: s.config.Labels, Annotations: s.config.Annotations,
		Linux: &runtimeapi.LinuxPodSandboxStatus{Namespaces: &runtimeapi.Namespace{
			Options: s.config.GetLinux().GetSecurityContext().GetNamespaceOptions(),
		}},
		Network: &runtimeapi.PodSandboxNetworkStatus{},
	}
	// The kubelet knows the addresses of its node by itself.
	if !onNode(s.config) && len(s.room.IPs) > 0 {
		status.Network.Ip = s.room.IPs[0]
		for _, ip := range s.room.IPs[1:] {
			status.Network.AdditionalIps = append(status.Network.AdditionalIps, &runtimeapi.PodIP{Ip: ip})
		}
	}
	return status
}
