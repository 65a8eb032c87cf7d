package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	utilexec "k8s.io/utils/exec"
)

// container is one container: a process in its Pod's room with a file system of
// its own. It is made, started once, and ends.
type container struct {
	id      string
	box     *sandbox
	config  *runtimeapi.ContainerConfig
	image   image
	base    string
	cgroup  string
	created time.Time
	// ended is closed when the process has ended and its output is written.
	ended chan struct{}

	mu       sync.Mutex
	state    runtimeapi.ContainerState
	pid      int
	started  time.Time
	finished time.Time
	code     int
}

// start returns when the process runs.
func (c *container) start(programs string) error {
	log, err := openLog(c.logPath())
	if err != nil {
		return err
	}
	running := make(chan error, 1)
	go func() {
		err := onThread(func() error { return c.run(programs, log, running) })
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			log.write("stderr", "the lab: "+err.Error())
		}
		// What the process left behind holds the log open.
		_ = killAll(c.cgroup)
		log.close()
		c.finish(exitCode(err))
	}()
	return <-running
}

// run is the life of the process, on a thread of its own; running hears whether
// it came to life.
func (c *container) run(programs string, log *containerLog, running chan<- error) error {
	cgroup, err := os.Open(c.cgroup)
	if err != nil {
		running <- err
		return err
	}
	defer cgroup.Close()
	if err = enterNetns(c.box.room.Netns, c.box.host); err == nil {
		err = c.files(programs).enter()
	}
	if err != nil {
		running <- err
		return err
	}
	out, err := log.pipe("stdout")
	if err != nil {
		running <- err
		return err
	}
	errs, err := log.pipe("stderr")
	if err != nil {
		running <- errors.Join(err, out.Close())
		return err
	}
	program := c.program(c.command())
	program.cgroup, program.out, program.errs = cgroup, out, errs
	child, err := program.start()
	_ = errors.Join(out.Close(), errs.Close()) // the process has its own
	if err == nil {
		c.mu.Lock()
		c.state, c.pid, c.started = runtimeapi.ContainerState_CONTAINER_RUNNING, child.Process.Pid, time.Now()
		c.mu.Unlock()
	}
	running <- err
	if err != nil {
		return err
	}
	return child.Wait()
}

func (c *container) finish(code int) {
	c.mu.Lock()
	if c.started.IsZero() {
		c.started = time.Now()
	}
	c.state, c.code, c.finished, c.pid = runtimeapi.ContainerState_CONTAINER_EXITED, code, time.Now(), 0
	c.mu.Unlock()
	close(c.ended)
}

// stop sends SIGTERM and, when the grace is over, SIGKILL.
func (c *container) stop(grace time.Duration) error {
	c.mu.Lock()
	pid, state := c.pid, c.state
	c.mu.Unlock()
	switch state {
	case runtimeapi.ContainerState_CONTAINER_RUNNING:
	case runtimeapi.ContainerState_CONTAINER_CREATED:
		c.finish(0)
		return nil
	default:
		return nil
	}
	if grace > 0 {
		// One that ends at this moment needs no signal.
		_ = unix.Kill(pid, unix.SIGTERM)
		select {
		case <-c.ended:
			return nil
		case <-time.After(grace):
		}
	}
	if err := killAll(c.cgroup); err != nil {
		return err
	}
	<-c.ended
	return nil
}

// exec runs a command where the container is and returns when it has exited.
func (c *container) exec(ctx context.Context, command []string, in io.Reader, out, errs io.Writer) error {
	c.mu.Lock()
	pid := c.pid
	c.mu.Unlock()
	if pid == 0 {
		return fmt.Errorf("container %s does not run", c.config.Metadata.Name)
	}
	cgroup, err := os.Open(c.cgroup)
	if err != nil {
		return err
	}
	defer cgroup.Close()
	err = onThread(func() error {
		if err := enterProcess(pid); err != nil {
			return err
		}
		program := c.program(command)
		program.cgroup, program.in, program.out, program.errs = cgroup, in, out, errs
		child, err := program.start()
		if err != nil {
			return err
		}
		over := context.AfterFunc(ctx, func() { _ = unix.Kill(-child.Process.Pid, unix.SIGKILL) })
		defer over()
		return child.Wait()
	})
	if ctx.Err() != nil {
		return fmt.Errorf("command %q timed out: %w", strings.Join(command, " "), ctx.Err())
	}
	if code := exitCode(err); code != 0 {
		return utilexec.CodeExitError{Err: err, Code: code}
	}
	return nil
}

// command is what the Pod says, or else the image.
func (c *container) command() []string {
	command, arguments := c.config.Command, c.config.Args
	if len(command) == 0 {
		command = c.image.entrypoint
		if len(arguments) == 0 {
			arguments = c.image.arguments
		}
	}
	return append(append([]string{}, command...), arguments...)
}

func (c *container) program(command []string) program {
	environment := []string{"PATH=" + os.Getenv("PATH"), "HOME=/root", "HOSTNAME=" + c.box.host}
	for _, variable := range c.config.Envs {
		environment = append(environment, variable.Key+"="+string(variable.Value))
	}
	p := program{command: command, environment: environment, folder: "/"}
	if c.config.WorkingDir != "" {
		p.folder = c.config.WorkingDir
	}
	security := c.config.GetLinux().GetSecurityContext()
	if user := security.GetRunAsUser(); user != nil {
		p.user = uint32(user.Value)
	}
	if group := security.GetRunAsGroup(); group != nil {
		p.group = uint32(group.Value)
	}
	return p
}

func (c *container) files(programs string) rootfs {
	links := map[string]string{}
	for name, program := range c.image.programs {
		links[name] = filepath.Join(programs, program)
	}
	files := map[string]string{"/etc/hostname": c.box.host + "\n", "/etc/resolv.conf": c.box.resolver()}
	return rootfs{base: c.base, files: files, links: links, mounts: c.config.Mounts}
}

func (c *container) logPath() string {
	return filepath.Join(c.box.config.LogDirectory, c.config.LogPath)
}

func (c *container) summary() *runtimeapi.Container {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &runtimeapi.Container{
		Id: c.id, PodSandboxId: c.box.id, Metadata: c.config.Metadata, Image: c.config.Image, ImageRef: c.config.Image.Image,
		State: c.state, CreatedAt: c.created.UnixNano(), Labels: c.config.Labels, Annotations: c.config.Annotations,
	}
}

func (c *container) status() *runtimeapi.ContainerStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	status := &runtimeapi.ContainerStatus{
		Id: c.id, Metadata: c.config.Metadata, State: c.state, CreatedAt: c.created.UnixNano(), ExitCode: int32(c.code),
		Image: c.config.Image, ImageRef: c.config.Image.Image, Labels: c.config.Labels, Annotations: c.config.Annotations,
		Mounts: c.config.Mounts, LogPath: c.logPath(),
	}
	if !c.started.IsZero() {
		status.StartedAt = c.started.UnixNano()
	}
	if c.state == runtimeapi.ContainerState_CONTAINER_EXITED {
		status.FinishedAt = c.finished.UnixNano()
		status.Reason = "Completed"
		if c.code != 0 {
			status.Reason = "Error"
		}
	}
	return status
}
