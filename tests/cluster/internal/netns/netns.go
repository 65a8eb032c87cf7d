// Package netns runs code inside another network namespace of this machine.
//
// It does not know what a namespace stands for (a node, a Pod, an outside client).
package netns

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// Path answers the file of a namespace that is given as an absolute path
// (/run/netns/x, /proc/1/ns/net) or by the name `ip netns` knows it by.
func Path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join("/run/netns", filepath.Base(name))
}

// Do calls f on a thread that is inside the network namespace at path, and
// returns when f has. Sockets made by f and processes started by f belong to
// that namespace. Only the thread enters it: /sys and /proc stay the caller's.
func Do(path string, f func() error) error {
	result := make(chan error, 1)
	go func() {
		// Never unlocked: the runtime then ends the thread together with the
		// goroutine, so no other goroutine ever runs in the wrong namespace.
		runtime.LockOSThread()
		result <- enter(path, f)
	}()
	return <-result
}

func enter(path string, f func() error) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("network namespace: %w", err)
	}
	defer file.Close()
	if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", path, err)
	}
	return f()
}
