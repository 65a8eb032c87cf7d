package kubelet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
)

// How long an exec session may be silent.
const execIdle = time.Hour

// ExecListener is the one part of a kubelet's HTTPS server that tests need. It
// listens on loopback and serves only who has a certificate of the cluster.
type ExecListener struct {
	listener net.Listener
	tls      *tls.Config
}

// NewExecListener listens on a free port of 127.0.0.1 with the serving
// certificate in two files; clientCA is the file of the authority whose clients
// are let in.
func NewExecListener(certificate, key, clientCA string) (*ExecListener, error) {
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return nil, err
	}
	authority, err := os.ReadFile(clientCA)
	if err != nil {
		return nil, err
	}
	clients := x509.NewCertPool()
	if !clients.AppendCertsFromPEM(authority) {
		return nil, fmt.Errorf("%s holds no certificate", clientCA)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return &ExecListener{listener: listener, tls: &tls.Config{
		Certificates: []tls.Certificate{pair}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert,
	}}, nil
}

func (e *ExecListener) port() int32 {
	return int32(e.listener.Addr().(*net.TCPAddr).Port) //nolint:gosec // a port is below 65536
}

func (e *ExecListener) serve(ctx context.Context, pods corelisters.PodLister) {
	mux := http.NewServeMux()
	mux.HandleFunc("/exec/{namespace}/{pod}/{container}", func(w http.ResponseWriter, r *http.Request) {
		pod, err := pods.Pods(r.PathValue("namespace")).Get(r.PathValue("pod"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		serveExec(w, r, pod)
	})
	server := &http.Server{Handler: mux, TLSConfig: e.tls}
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	if err := server.ServeTLS(e.listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
		fmt.Fprintln(os.Stderr, "fake-kubelet: exec server:", err)
	}
}

func serveExec(w http.ResponseWriter, r *http.Request, pod *corev1.Pod) {
	place, err := sandboxOf(pod)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	options, err := remotecommand.NewOptions(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	remotecommand.ServeExec(w, r, executor{place}, pod.Name, string(pod.UID),
		r.PathValue("container"), r.Form["command"], options, execIdle,
		remotecommand.DefaultStreamCreationTimeout, remotecommand.SupportedStreamingProtocols)
}

// executor fits a sandbox to the streaming library.
type executor struct{ sandbox sandbox }

// ExecInContainer implements remotecommand.Executor. Terminals are not made: a
// command asked to have one gets pipes.
func (e executor) ExecInContainer(ctx context.Context, _, _, _ string, command []string,
	in io.Reader, out, errs io.WriteCloser, _ bool, _ <-chan remotecommand.TerminalSize, _ time.Duration,
) error {
	return e.sandbox.run(ctx, command, in, out, errs)
}
