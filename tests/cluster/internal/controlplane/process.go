package controlplane

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// process is one component: this very program, run under another name.
type process struct {
	name      string
	arguments []string
	command   *exec.Cmd
	// ended is closed when the process has.
	ended chan struct{}
}

// family is all processes of one cluster. Its methods are called on one thread
// that is locked to its goroutine: the kernel ends the processes when that
// thread ends (PR_SET_PDEATHSIG speaks of threads), so none outlives `up`.
type family struct {
	dir     *directory
	members []*process
	// exits names each process that has ended.
	exits chan *process
}

func newFamily(dir *directory) *family {
	return &family{dir: dir, exits: make(chan *process, 64)}
}

// start runs a component; its output goes to NAME.log, its process id to NAME.pid.
func (f *family) start(name string, arguments ...string) (*process, error) {
	p := &process{name: name, arguments: arguments}
	if err := f.launch(p); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	f.members = append(f.members, p)
	return p, nil
}

func (f *family) launch(p *process) error {
	log, err := os.OpenFile(f.dir.file(p.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	fmt.Fprintln(log, p.name, strings.Join(p.arguments, " "))
	command := &exec.Cmd{
		// Not the path of the program: it stays the same one if that is replaced.
		Path: "/proc/self/exe",
		// The program goes by the name it is called with.
		Args:   append([]string{p.name}, p.arguments...),
		Stdout: log, Stderr: log,
		// A group of its own, lest Ctrl-C in a terminal ends it before its parent.
		SysProcAttr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true},
	}
	if err := command.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	p.command, p.ended = command, ended
	go func() {
		_ = command.Wait() // how it ended is in ProcessState
		close(ended)
		f.exits <- p
	}()
	return f.dir.write(p.name+".pid", fmt.Appendln(nil, command.Process.Pid))
}

// stop ends all processes at once and waits for them. They are killed: none of
// them holds anything that outlives the cluster.
func (f *family) stop() {
	for _, p := range f.members {
		_ = p.command.Process.Kill() // fails if it has ended, which is as good
	}
	for _, p := range f.members {
		<-p.ended
	}
}

// obituary is the error for a process that has ended by itself.
func (f *family) obituary(p *process) error {
	log := p.name + ".log"
	return fmt.Errorf("%s ended: %s; the end of %s:\n%s",
		p.name, p.command.ProcessState, f.dir.file(log), f.dir.lastLines(log, 5))
}
