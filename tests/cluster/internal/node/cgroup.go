package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// How long killed processes may take to go.
const deathPatience = 10 * time.Second

// killAll kills every process in a cgroup2 folder and waits until none is left.
// A folder that is gone has none.
func killAll(cgroup string) error {
	err := os.WriteFile(filepath.Join(cgroup, "cgroup.kill"), []byte("1"), 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("kill what runs in %s: %w", cgroup, err)
	}
	for deadline := time.Now().Add(deathPatience); populated(cgroup); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("processes in %s do not end", cgroup)
		}
	}
	return nil
}

func populated(cgroup string) bool {
	content, err := os.ReadFile(filepath.Join(cgroup, "cgroup.events"))
	return err == nil && strings.Contains(string(content), "populated 1")
}

// removeCgroup removes a folder without processes, and those below it.
func removeCgroup(path string) error {
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() {
			if err := removeCgroup(filepath.Join(path, entry.Name())); err != nil {
				return err
			}
		}
	}
	return syscall.Rmdir(path)
}
