package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming"
)

// service is a container runtime whose containers are processes of the machine
// in rooms of the lab. What a kubelet never asks on such a node is left to the
// embedded interface, which is nil.
type service struct {
	internalapi.RuntimeService
	landlord landlord
	// folder holds the containers' files; programs holds what images link to.
	folder   string
	programs string
	streams  streaming.Server

	mu         sync.Mutex
	sandboxes  map[string]*sandbox
	containers map[string]*container
}

func newService(landlord landlord, folder, programs string) *service {
	return &service{
		landlord: landlord, folder: folder, programs: programs,
		sandboxes: map[string]*sandbox{}, containers: map[string]*container{},
	}
}

func newID() string {
	var bytes [8]byte
	_, _ = rand.Read(bytes[:]) // never fails
	return hex.EncodeToString(bytes[:])
}

func notFound(what, id string) error {
	return status.Errorf(codes.NotFound, "%s %s does not exist", what, id)
}

func (s *service) RunPodSandbox(_ context.Context, config *runtimeapi.PodSandboxConfig, _ string) (string, error) {
	box := &sandbox{id: newID(), config: config, host: config.Hostname, created: time.Now(), ready: true}
	name := fmt.Sprintf("%.60s-%s", config.Metadata.Name, box.id[:6])
	var err error
	if onNode(config) {
		box.host = s.landlord.node
		box.room, err = s.landlord.share(name)
	} else if box.room, err = s.landlord.let(name); err == nil {
		err = box.tune()
	}
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(config.LogDirectory, 0o755); err != nil {
		return "", err
	}
	if !onNode(config) {
		if err := box.openPorts(s.landlord.own.Netns); err != nil {
			return "", errors.Join(err, s.landlord.clear(box.room))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sandboxes[box.id] = box
	return box.id, nil
}

func (s *service) StopPodSandbox(_ context.Context, id string) error {
	s.mu.Lock()
	box, found := s.sandboxes[id]
	stopped := !found || !box.ready
	if found {
		box.ready = false
	}
	s.mu.Unlock()
	if stopped {
		return nil
	}
	for _, c := range s.containersOf(id) {
		if err := c.stop(0); err != nil {
			return err
		}
	}
	return errors.Join(box.closePorts(s.landlord.own.Netns), s.landlord.clear(box.room))
}

func (s *service) RemovePodSandbox(ctx context.Context, id string) error {
	if err := s.StopPodSandbox(ctx, id); err != nil {
		return err
	}
	for _, c := range s.containersOf(id) {
		if err := s.RemoveContainer(ctx, c.id); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sandboxes, id)
	return nil
}

func (s *service) PodSandboxStatus(_ context.Context, id string, _ bool) (*runtimeapi.PodSandboxStatusResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	box, found := s.sandboxes[id]
	if !found {
		return nil, notFound("sandbox", id)
	}
	return &runtimeapi.PodSandboxStatusResponse{Status: box.status()}, nil
}

func (s *service) ListPodSandbox(_ context.Context, filter *runtimeapi.PodSandboxFilter) ([]*runtimeapi.PodSandbox, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*runtimeapi.PodSandbox
	for _, box := range s.sandboxes {
		one := box.summary()
		if filter != nil && (filter.Id != "" && filter.Id != one.Id ||
			filter.State != nil && filter.State.State != one.State || !matches(filter.LabelSelector, one.Labels)) {
			continue
		}
		all = append(all, one)
	}
	return all, nil
}

func (s *service) CreateContainer(_ context.Context, box string, config *runtimeapi.ContainerConfig, _ *runtimeapi.PodSandboxConfig) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	place, found := s.sandboxes[box]
	if !found {
		return "", notFound("sandbox", box)
	}
	c := &container{
		id: newID(), box: place, config: config, image: images[imageName(config.Image.Image)], created: time.Now(), ended: make(chan struct{}),
	}
	c.base, c.cgroup = filepath.Join(s.folder, c.id), filepath.Join(place.room.Cgroup, "container-"+c.id)
	if err := errors.Join(os.MkdirAll(c.base, 0o755), os.MkdirAll(c.cgroup, 0o755), os.MkdirAll(filepath.Dir(c.logPath()), 0o755)); err != nil {
		return "", err
	}
	s.containers[c.id] = c
	return c.id, nil
}

func (s *service) StartContainer(_ context.Context, id string) error {
	c, err := s.container(id)
	if err != nil {
		return err
	}
	return c.start(s.programs)
}

func (s *service) StopContainer(_ context.Context, id string, seconds int64) error {
	c, err := s.container(id)
	if err != nil {
		return nil // gone is as good as stopped
	}
	return c.stop(time.Duration(seconds) * time.Second)
}

func (s *service) RemoveContainer(_ context.Context, id string) error {
	c, err := s.container(id)
	if err != nil {
		return nil
	}
	if err := errors.Join(c.stop(0), removeCgroup(c.cgroup), os.RemoveAll(c.base), os.RemoveAll(c.logPath())); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.containers, id)
	return nil
}

func (s *service) ListContainers(_ context.Context, filter *runtimeapi.ContainerFilter) ([]*runtimeapi.Container, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*runtimeapi.Container
	for _, c := range s.containers {
		one := c.summary()
		if filter != nil && (filter.Id != "" && filter.Id != one.Id || filter.PodSandboxId != "" && filter.PodSandboxId != one.PodSandboxId ||
			filter.State != nil && filter.State.State != one.State || !matches(filter.LabelSelector, one.Labels)) {
			continue
		}
		all = append(all, one)
	}
	return all, nil
}

func (s *service) ContainerStatus(_ context.Context, id string, _ bool) (*runtimeapi.ContainerStatusResponse, error) {
	c, err := s.container(id)
	if err != nil {
		return nil, err
	}
	return &runtimeapi.ContainerStatusResponse{Status: c.status()}, nil
}

func (s *service) ExecSync(ctx context.Context, id string, command []string, timeout time.Duration) ([]byte, []byte, error) {
	c, err := s.container(id)
	if err != nil {
		return nil, nil, err
	}
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	var out, errs bytes.Buffer
	err = c.exec(ctx, command, nil, &out, &errs)
	if errors.Is(err, context.DeadlineExceeded) {
		err = status.Error(codes.DeadlineExceeded, err.Error())
	}
	return out.Bytes(), errs.Bytes(), err
}

func (s *service) container(id string) (*container, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, found := s.containers[id]
	if !found {
		return nil, notFound("container", id)
	}
	return c, nil
}

func (s *service) containersOf(box string) []*container {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*container
	for _, c := range s.containers {
		if c.box.id == box {
			all = append(all, c)
		}
	}
	slices.SortFunc(all, func(a, b *container) int { return b.created.Compare(a.created) })
	return all
}

func matches(selector, labels map[string]string) bool {
	for key, value := range selector {
		if labels[key] != value {
			return false
		}
	}
	return true
}
