package node

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// program is what to run and as whom.
type program struct {
	command     []string
	environment []string
	folder      string
	user, group uint32
	// cgroup is an open cgroup2 folder: it cannot be reached from inside a
	// container.
	cgroup    *os.File
	in        io.Reader
	out, errs io.Writer
}

// start runs the program from the calling thread, whose namespaces it inherits.
// It is killed when the thread ends, that is, also when this process does.
func (p program) start() (*exec.Cmd, error) {
	if len(p.command) == 0 {
		return nil, errors.New("no command")
	}
	child := exec.Command(p.command[0], p.command[1:]...)
	child.Env, child.Dir = p.environment, p.folder
	child.Stdout, child.Stderr = p.out, p.errs
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true}
	if p.user != 0 || p.group != 0 {
		child.SysProcAttr.Credential = &syscall.Credential{Uid: p.user, Gid: p.group}
	}
	child.SysProcAttr.UseCgroupFD, child.SysProcAttr.CgroupFD = true, int(p.cgroup.Fd())
	if p.in == nil {
		return child, child.Start()
	}
	// Not child.Stdin: Wait would then wait for the client to close its end
	// although the command has long exited.
	pipe, err := child.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := child.Start(); err != nil {
		return nil, err
	}
	go func() {
		_, _ = io.Copy(pipe, p.in)
		_ = pipe.Close()
	}()
	return child, nil
}

// onThread calls f on a thread of its own that is never used for anything else,
// so f may move it into namespaces. It returns when f has.
func onThread(f func() error) error {
	result := make(chan error, 1)
	go func() {
		// Never unlocked: the runtime ends the thread with the goroutine.
		runtime.LockOSThread()
		result <- f()
	}()
	return <-result
}

// enterNetns moves the calling thread into a network namespace, and into a host
// name of its own.
func enterNetns(path, host string) error {
	if err := setns(path, unix.CLONE_NEWNET); err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_NEWUTS); err != nil {
		return fmt.Errorf("new UTS namespace: %w", err)
	}
	if err := unix.Sethostname([]byte(host)); err != nil {
		return fmt.Errorf("set host name %s: %w", host, err)
	}
	return nil
}

// enterProcess moves the calling thread to where a process is: its network, host
// name and files.
func enterProcess(pid int) error {
	// A thread that shares its root directory with others cannot change mounts.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("a root directory of its own: %w", err)
	}
	spaces := []struct {
		name string
		kind int
	}{{"net", unix.CLONE_NEWNET}, {"uts", unix.CLONE_NEWUTS}, {"mnt", unix.CLONE_NEWNS}}
	for _, space := range spaces {
		if err := setns(fmt.Sprintf("/proc/%d/ns/%s", pid, space.name), space.kind); err != nil {
			return err
		}
	}
	return nil
}

func setns(path string, kind int) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := unix.Setns(int(file.Fd()), kind); err != nil {
		return fmt.Errorf("enter %s: %w", path, err)
	}
	return nil
}

// exitCode is what a shell would say.
func exitCode(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			return 128 + int(status.Signal())
		}
		return exit.ExitCode()
	}
	if err != nil {
		return 128
	}
	return 0
}
