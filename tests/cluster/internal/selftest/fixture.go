package selftest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// How long anything in a cluster may take before it counts as never.
const patience = 60 * time.Second

// fixture is the cluster under test and what the steps keep of it.
type fixture struct {
	dir    string
	up     *exec.Cmd
	stdin  io.Closer
	server string // HOST:PORT
	client kubernetes.Interface
	// netns is a network namespace of our own that plays the Pods'.
	netns     string
	dropNetns func()
	// cgroup plays the Pods' cgroup.
	cgroup string
}

func newFixture() (*fixture, error) {
	dir, err := os.MkdirTemp("", "cluster-selftest")
	if err != nil {
		return nil, err
	}
	f := &fixture{dir: dir}
	if f.netns, f.dropNetns, err = newNetns(); err != nil {
		return nil, err
	}
	root, err := cgroupRoot()
	if err != nil {
		return nil, err
	}
	f.cgroup = filepath.Join(root, filepath.Base(dir))
	return f, os.Mkdir(f.cgroup, 0o755)
}

// cgroupRoot answers where the cgroup2 hierarchy is mounted.
func cgroupRoot() (string, error) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(mounts)) {
		// device, mount point, type; see fstab(5).
		if fields := strings.Fields(line); len(fields) > 2 && fields[2] == "cgroup2" {
			return fields[1], nil
		}
	}
	return "", errors.New("cgroup2 is not mounted")
}

func (f *fixture) close() {
	_ = os.Remove(f.cgroup) // empty again, since exec's commands have ended
	f.dropNetns()
	if f.up != nil {
		_ = f.up.Process.Kill()
		_ = f.up.Wait()
	}
}

// self answers this program called by another name. The child dies with the
// thread that starts it.
func self(name string, arguments ...string) *exec.Cmd {
	return &exec.Cmd{
		Path: "/proc/self/exe", Args: append([]string{name}, arguments...),
		SysProcAttr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	}
}

// launch starts `up` in the state directory and reads until it says READY.
func (f *fixture) launch() error {
	f.up = self("up", "--dir", f.dir, "--wait-for-runner", "--max-grace=1s", "--stop-on=stdin")
	f.up.Stderr = os.Stderr
	stdin, err := f.up.StdinPipe()
	if err != nil {
		return err
	}
	f.stdin = stdin
	stdout, err := f.up.StdoutPipe()
	if err != nil {
		return err
	}
	if err := f.up.Start(); err != nil {
		return err
	}
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		fmt.Println("     ", lines.Text())
		if strings.HasPrefix(lines.Text(), "READY ") {
			return f.connect(lines.Text())
		}
	}
	return errors.New("up ended before it was ready")
}

func (f *fixture) connect(ready string) error {
	for _, field := range strings.Fields(ready) {
		if server, ok := strings.CutPrefix(field, "server=https://"); ok {
			f.server = server
		}
	}
	var err error
	f.client, err = f.clientOf("admin")
	return err
}

func (f *fixture) kubeconfig(name string) string { return filepath.Join(f.dir, name+".kubeconfig") }

func (f *fixture) clientOf(name string) (kubernetes.Interface, error) {
	config, err := clientcmd.BuildConfigFromFlags("", f.kubeconfig(name))
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(config)
}

// kubectl answers what the command prints, and how it ended.
func (f *fixture) kubectl(ctx context.Context, stdin string, arguments ...string) (string, error) {
	command := self("kubectl", arguments...)
	command.Env = append(os.Environ(), "KUBECONFIG="+f.kubeconfig("admin"))
	command.Stdin = strings.NewReader(stdin)
	return output(ctx, command)
}

func output(ctx context.Context, command *exec.Cmd) (string, error) {
	var out, errs bytes.Buffer
	command.Stdout, command.Stderr = &out, &errs
	if err := command.Start(); err != nil {
		return "", err
	}
	stop := context.AfterFunc(ctx, func() { _ = command.Process.Kill() })
	defer stop()
	if err := command.Wait(); err != nil {
		return out.String(), fmt.Errorf("%s: %w: %s", strings.Join(command.Args, " "), err, errs.String())
	}
	return out.String(), nil
}

// eventually asks until the answer is nil, and answers the last one if it never is.
func eventually(ctx context.Context, ask func() error) error {
	deadline := time.Now().Add(patience)
	for {
		answer := ask()
		if answer == nil || ctx.Err() != nil || time.Now().After(deadline) {
			return answer
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// newNetns makes a network namespace with its loopback up. It lives, under the
// path, until drop is called or the process ends.
func newNetns() (path string, drop func(), err error) {
	ready, done := make(chan error, 1), make(chan struct{})
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread goes with the namespace
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			ready <- fmt.Errorf("new network namespace (are you root?): %w", err)
			return
		}
		path = fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())
		ready <- loopbackUp()
		<-done
	}()
	return path, func() { close(done) }, <-ready
}

func loopbackUp() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, request)
}
