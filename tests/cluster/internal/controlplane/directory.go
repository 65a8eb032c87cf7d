package controlplane

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// The longest path of a unix socket, without the closing zero byte (unix(7)).
const longestSocketPath = 107

// directory is the state directory of one cluster. It belongs to one `up` at a
// time; what an earlier one left in it is removed, since its certificates and
// its data speak of a cluster that is gone.
type directory struct {
	path string
	// lock is held until the process ends, however it ends.
	lock *os.File
}

const (
	lockFile  = "lock"
	readyFile = "ready"
)

func openDirectory(path string) (*directory, error) {
	if path == "" {
		made, err := os.MkdirTemp("", "cluster")
		if err != nil {
			return nil, err
		}
		path = made
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	d := &directory{path: path}
	if long := d.file("etcd-peer.sock"); len(long) > longestSocketPath {
		return nil, fmt.Errorf("--dir is too long: %s has %d bytes, a unix socket may have %d", long, len(long), longestSocketPath)
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, err
	}
	if err := d.claim(); err != nil {
		return nil, err
	}
	return d, d.clear()
}

// claim refuses a directory that is in use, or holds files of somebody else.
func (d *directory) claim() error {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return err
	}
	if _, err := os.Stat(d.file(lockFile)); errors.Is(err, os.ErrNotExist) && len(entries) > 0 {
		return fmt.Errorf("--dir %s holds files that are not a cluster's; name an empty or missing directory", d.path)
	}
	if d.lock, err = os.OpenFile(d.file(lockFile), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o644); err != nil {
		return err
	}
	if err := unix.Flock(int(d.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("--dir %s is used by a cluster that runs", d.path)
	}
	return nil
}

// clear removes what this program writes, and nothing else.
func (d *directory) clear() error {
	own := []string{readyFile, "etcd", "etcd.sock", "etcd-peer.sock"}
	for _, pattern := range []string{"*.kubeconfig", "*.crt", "*.key", "*.log", "*.pid"} {
		matches, err := filepath.Glob(d.file(pattern))
		if err != nil {
			return err
		}
		for _, match := range matches {
			own = append(own, filepath.Base(match))
		}
	}
	for _, name := range own {
		if err := os.RemoveAll(d.file(name)); err != nil {
			return err
		}
	}
	return nil
}

func (d *directory) file(name string) string { return filepath.Join(d.path, name) }

func (d *directory) write(name string, content []byte) error {
	return os.WriteFile(d.file(name), content, 0o600)
}

// announce writes the ready file, complete from the moment it is there.
func (d *directory) announce(server string) error {
	if err := d.write(readyFile+".new", []byte(server+"\n")); err != nil {
		return err
	}
	return os.Rename(d.file(readyFile+".new"), d.file(readyFile))
}

// lastLines answers the end of a log, for an error message.
func (d *directory) lastLines(name string, count int) string {
	content, err := os.ReadFile(d.file(name))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	return strings.Join(lines[max(0, len(lines)-count):], "\n")
}
