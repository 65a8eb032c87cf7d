package component

import (
	"github.com/spf13/cobra"

	"k8s.io/kubernetes/test/images/agnhost/connect"
	"k8s.io/kubernetes/test/images/agnhost/dns"
	grpchealth "k8s.io/kubernetes/test/images/agnhost/grpc-health-checking"
	"k8s.io/kubernetes/test/images/agnhost/liveness"
	"k8s.io/kubernetes/test/images/agnhost/net"
	"k8s.io/kubernetes/test/images/agnhost/netexec"
	"k8s.io/kubernetes/test/images/agnhost/nettest"
	nosnat "k8s.io/kubernetes/test/images/agnhost/no-snat-test"
	nosnatproxy "k8s.io/kubernetes/test/images/agnhost/no-snat-test-proxy"
	"k8s.io/kubernetes/test/images/agnhost/pause"
	portforwardtester "k8s.io/kubernetes/test/images/agnhost/port-forward-tester"
	"k8s.io/kubernetes/test/images/agnhost/porter"
	servehostname "k8s.io/kubernetes/test/images/agnhost/serve-hostname"
	tcpreset "k8s.io/kubernetes/test/images/agnhost/tcp-reset"
	testwebserver "k8s.io/kubernetes/test/images/agnhost/test-webserver"
)

// Agnhost runs the program of the agnhost test image. Upstream's own main
// package cannot be imported, its sub commands can; these are the ones that
// concern the network.
func Agnhost() int {
	root := &cobra.Command{Use: "agnhost", Version: "sluice"}
	root.AddCommand(
		connect.CmdConnect,
		dns.CmdDNSSuffix, dns.CmdDNSServerList, dns.CmdEtcHosts,
		grpchealth.CmdGrpcHealthChecking,
		liveness.CmdLiveness,
		net.CmdNet,
		netexec.CmdNetexec,
		nettest.CmdNettest,
		nosnat.CmdNoSnatTest, nosnatproxy.CmdNoSnatTestProxy,
		pause.CmdPause,
		portforwardtester.CmdPortForwardTester,
		porter.CmdPorter,
		servehostname.CmdServeHostname,
		tcpreset.CmdTCPReset,
		testwebserver.CmdTestWebserver,
	)
	return run(root)
}
