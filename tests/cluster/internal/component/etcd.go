package component

import (
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"go.etcd.io/etcd/server/v3/embed"
)

// Etcd runs one etcd member that is a cluster by itself. Its flags are its own,
// not upstream's:
//
//	etcd --data-dir=DIR --client-url=unix:///… --peer-url=unix:///…
func Etcd() int {
	flags := flag.NewFlagSet("etcd", flag.ExitOnError)
	dir := flags.String("data-dir", "", "data directory")
	client := flags.String("client-url", "", "where clients connect, for example unix:///run/x/etcd.sock")
	peer := flags.String("peer-url", "", "where peers would connect")
	_ = flags.Parse(os.Args[1:]) // ExitOnError: never returns one

	config, err := etcdConfig(*dir, *client, *peer)
	if err == nil {
		err = serveEtcd(config)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "etcd:", err)
		return 1
	}
	return 0
}

func etcdConfig(dir, client, peer string) (*embed.Config, error) {
	clientURL, err := url.Parse(client)
	if err != nil {
		return nil, fmt.Errorf("--client-url: %w", err)
	}
	peerURL, err := url.Parse(peer)
	if err != nil {
		return nil, fmt.Errorf("--peer-url: %w", err)
	}
	config := embed.NewConfig()
	config.Name = "lab"
	config.Dir = dir
	config.ListenClientUrls = []url.URL{*clientURL}
	config.ListenPeerUrls = []url.URL{*peerURL}
	// etcd listens on unix URLs but refuses to advertise them. A member that is
	// alone never dials what it advertises, so any host:port will do.
	config.AdvertisePeerUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:1"}}
	config.AdvertiseClientUrls = config.AdvertisePeerUrls
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	// The data does not outlive the test, so nothing is gained by waiting for the disk.
	config.UnsafeNoFsync = true
	config.LogLevel = "warn"
	// The zero that NewConfig leaves here logs every single request.
	config.WarningUnaryRequestDuration = embed.DefaultWarningUnaryRequestDuration
	// Nobody else can be elected: do not wait a second to find out.
	config.TickMs = 10
	config.ElectionMs = 100
	return config, nil
}

// serveEtcd returns nil after SIGTERM or SIGINT.
func serveEtcd(config *embed.Config) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	etcd, err := embed.StartEtcd(config)
	if err != nil {
		return err
	}
	defer etcd.Close()
	select {
	case <-signals:
		return nil
	case err := <-etcd.Err():
		return err
	}
}
