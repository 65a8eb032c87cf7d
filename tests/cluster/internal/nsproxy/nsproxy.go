// Package nsproxy makes a TCP address of the caller's network namespace
// reachable inside other ones, with no device, route or firewall rule: it
// listens there and dials here.
//
// The usual case is the API server, which listens on 127.0.0.1 of the namespace
// it was started in. A listener at the very same address in a node's namespace
// lets the node's agent use the kubeconfig as it is.
package nsproxy

import (
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"sluice.dev/tests/cluster/internal/lifeline"
	"sluice.dev/tests/cluster/internal/netns"
)

// Main is the command:
//
//	nsproxy --to HOST:PORT NETNS=HOST:PORT...
//
// NETNS is a name or an absolute path. It prints one line that starts with
// READY once all listeners are open.
func Main() int {
	flags := flag.NewFlagSet("nsproxy", flag.ExitOnError)
	to := flags.String("to", "", "address to dial from the caller's namespace")
	stop := lifeline.SignalsOnly
	flags.Var(&stop, "stop-on", "what ends the command: signals, or also the end of stdin")
	_ = flags.Parse(os.Args[1:])
	if err := run(*to, flags.Args(), stop); err != nil {
		fmt.Fprintln(os.Stderr, "nsproxy:", err)
		return 1
	}
	return 0
}

func run(to string, arguments []string, stop lifeline.Source) error {
	ctx, cancel := lifeline.Context(stop)
	defer cancel()
	if _, _, err := net.SplitHostPort(to); err != nil {
		return fmt.Errorf("--to: %w", err)
	}
	for _, argument := range arguments {
		door, err := parseDoor(argument)
		if err != nil {
			return err
		}
		listener, err := door.open()
		if err != nil {
			return err
		}
		go serve(listener, to)
	}
	fmt.Printf("READY to=%s listeners=%d\n", to, len(arguments))
	<-ctx.Done()
	return nil
}

// door is one place where connections come in.
type door struct {
	netns   string
	address string
}

// parseDoor takes NETNS=HOST:PORT apart at the last '=', since a path may hold
// one and an address may not.
func parseDoor(argument string) (door, error) {
	at := strings.LastIndexByte(argument, '=')
	if at <= 0 {
		return door{}, fmt.Errorf("%q is not NETNS=HOST:PORT", argument)
	}
	d := door{netns: netns.Path(argument[:at]), address: argument[at+1:]}
	if _, _, err := net.SplitHostPort(d.address); err != nil {
		return door{}, fmt.Errorf("%q is not NETNS=HOST:PORT: %w", argument, err)
	}
	return d, nil
}

func (d door) open() (listener net.Listener, err error) {
	err = netns.Do(d.netns, func() error {
		listener, err = net.Listen("tcp", d.address)
		return err
	})
	return listener, err
}

// serve ends with the process: nothing closes the listener before.
func serve(listener net.Listener, to string) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, "nsproxy:", err)
			return
		}
		go forward(connection, to)
	}
}

// forward copies both ways until both ends have said that they are done. When
// the far end cannot be reached the near one is simply closed.
func forward(near net.Conn, to string) {
	defer near.Close()
	far, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer far.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		pump(far, near)
	}()
	pump(near, far)
	<-done
}

// pump copies from source to sink and hands the end of the stream on, so that
// a half-closed connection stays usable the other way.
func pump(sink, source net.Conn) {
	_, err := io.Copy(sink, source)
	if half, ok := sink.(*net.TCPConn); ok && err == nil {
		_ = half.CloseWrite()
		return
	}
	_ = sink.Close()
	_ = source.Close()
}
