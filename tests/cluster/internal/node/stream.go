package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
)

// streams is the far end of `kubectl exec` and `kubectl port-forward`: the
// kubelet hands their connections on to it.
type streams struct{ service *service }

// openStreams serves on a free port of the node's loopback.
func (s *service) openStreams() error {
	config := streaming.DefaultConfig
	config.Addr = "127.0.0.1:0"
	server, err := streaming.NewServer(config, streams{s})
	if err != nil {
		return err
	}
	s.streams = server
	go func() { _ = server.Start(true) }() // ends with the process
	return nil
}

func (s *service) Exec(_ context.Context, request *runtimeapi.ExecRequest) (*runtimeapi.ExecResponse, error) {
	return s.streams.GetExec(request)
}

func (s *service) Attach(context.Context, *runtimeapi.AttachRequest) (*runtimeapi.AttachResponse, error) {
	return nil, errors.New("the lab's containers cannot be attached to")
}

func (s *service) PortForward(_ context.Context, request *runtimeapi.PortForwardRequest) (*runtimeapi.PortForwardResponse, error) {
	return s.streams.GetPortForward(request)
}

func (s streams) Exec(ctx context.Context, id string, command []string, in io.Reader, out, errs io.WriteCloser, _ bool, _ <-chan remotecommand.TerminalSize) error {
	c, err := s.service.container(id)
	if err != nil {
		return err
	}
	// A nil interface, not an interface of nil.
	var stdout, stderr io.Writer
	if out != nil {
		stdout = out
	}
	if errs != nil {
		stderr = errs
	}
	return c.exec(ctx, command, in, stdout, stderr)
}

func (s streams) Attach(context.Context, string, io.Reader, io.WriteCloser, io.WriteCloser, bool, <-chan remotecommand.TerminalSize) error {
	return errors.New("the lab's containers cannot be attached to")
}

func (s streams) PortForward(_ context.Context, id string, port int32, stream io.ReadWriteCloser) error {
	s.service.mu.Lock()
	box, found := s.service.sandboxes[id]
	s.service.mu.Unlock()
	if !found {
		return notFound("sandbox", id)
	}
	var connection net.Conn
	err := onThread(func() (err error) {
		if err := enterNetns(box.room.Netns, box.host); err != nil {
			return err
		}
		connection, err = net.Dial("tcp", fmt.Sprintf("localhost:%d", port))
		return err
	})
	if err != nil {
		return err
	}
	defer connection.Close()
	go func() {
		_, _ = io.Copy(connection, stream)
		_ = connection.(*net.TCPConn).CloseWrite()
	}()
	_, err = io.Copy(stream, connection)
	return err
}
