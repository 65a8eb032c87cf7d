package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const (
	// Each step of the start takes a second or two; this much only when
	// something is wrong, or the machine is very busy.
	startTimeout = 2 * time.Minute
	startPoll    = 20 * time.Millisecond
)

// probe answers nil once what it asks for is so.
type probe func(context.Context) error

// await asks until the answer is nil. It gives up when any process of the
// family ends, when ctx does, or after startTimeout with the last answer.
func (f *family) await(ctx context.Context, ask probe) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		answer := ask(ctx)
		if answer == nil {
			return nil
		}
		select {
		case ended := <-f.exits:
			return f.obituary(ended)
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w (%w)", answer, ctx.Err())
		case <-time.After(startPoll):
		}
	}
}

// etcdHealthy is more than a connect: an API server that meets the socket before
// anything is served on it stays away for a second.
func etcdHealthy(dir *directory) probe {
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, "unix", dir.file("etcd.sock"))
		},
	}}
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://etcd/health", nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return errors.New(response.Status)
		}
		return nil
	}
}

func apiServerReady(client kubernetes.Interface) probe {
	return func(ctx context.Context) error {
		answer, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		if err == nil && string(answer) != "ok" {
			err = errors.New(string(answer))
		}
		return err
	}
}

func defaultServiceAccount(client kubernetes.Interface) probe {
	return func(ctx context.Context) error {
		_, err := client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
		return err
	}
}
