package kubelet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	utilexec "k8s.io/utils/exec"

	"sluice.dev/tests/cluster/internal/netns"
)

// sandbox is where the commands of one Pod run: its network namespace, its host
// name and its cgroup. The file system is the machine's.
type sandbox struct {
	netns  string
	cgroup string // empty: where the fake kubelet is
	host   string
}

func sandboxOf(pod *corev1.Pod) (sandbox, error) {
	name := pod.Annotations[AnnotationNetns]
	if name == "" {
		return sandbox{}, fmt.Errorf("pod %s/%s has no annotation %s", pod.Namespace, pod.Name, AnnotationNetns)
	}
	s := sandbox{netns: netns.Path(name), cgroup: pod.Annotations[AnnotationCgroup], host: pod.Name}
	if pod.Spec.HostNetwork {
		s.host = pod.Spec.NodeName
	}
	if _, err := os.Stat(s.netns); err != nil {
		return sandbox{}, fmt.Errorf("network namespace of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return s, nil
}

// run returns when the command has exited; a non-zero exit code is an error that
// the streaming library passes on to the client.
func (s sandbox) run(ctx context.Context, command []string, in io.Reader, out, errs io.Writer) error {
	if len(command) == 0 {
		return errors.New("no command")
	}
	// In the agnhost image the program is in the root directory.
	if command[0] == "/agnhost" {
		command[0] = "agnhost"
	}
	err := netns.Do(s.netns, func() error {
		// The thread ends with this call, and the name with it.
		if err := unix.Unshare(unix.CLONE_NEWUTS); err != nil {
			return fmt.Errorf("new UTS namespace: %w", err)
		}
		if err := unix.Sethostname([]byte(s.host)); err != nil {
			return fmt.Errorf("set host name %s: %w", s.host, err)
		}
		return s.runHere(ctx, command, in, out, errs)
	})
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code := exit.ExitCode()
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			code = 128 + int(status.Signal()) // what a shell would say
		}
		return utilexec.CodeExitError{Err: exit, Code: code}
	}
	return err
}

// runHere starts the command from the calling thread, whose namespaces it
// inherits, and stays until it has exited: the command is killed when the
// thread ends, that is, also when the fake kubelet is.
func (s sandbox) runHere(ctx context.Context, command []string, in io.Reader, out, errs io.Writer) error {
	child := exec.CommandContext(ctx, command[0], command[1:]...)
	child.Stdout, child.Stderr = out, errs
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if s.cgroup != "" {
		cgroup, err := os.Open(filepath.Clean(s.cgroup))
		if err != nil {
			return fmt.Errorf("cgroup: %w", err)
		}
		defer cgroup.Close()
		child.SysProcAttr.UseCgroupFD = true
		child.SysProcAttr.CgroupFD = int(cgroup.Fd())
	}
	if in != nil {
		// Not child.Stdin: Wait would then wait for the client to close its end
		// although the command has long exited.
		pipe, err := child.StdinPipe()
		if err != nil {
			return err
		}
		go func() {
			_, _ = io.Copy(pipe, in)
			_ = pipe.Close()
		}()
	}
	return child.Run()
}
