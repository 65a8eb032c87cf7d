package selftest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

func startCluster(_ context.Context, f *fixture) error { return f.launch() }

func refuseSecond(ctx context.Context, f *fixture) error {
	_, err := output(ctx, self("up", "--dir", f.dir))
	if err == nil || !strings.Contains(err.Error(), "is used by a cluster that runs") {
		return fmt.Errorf("a second up answers %v", err)
	}
	return nil
}

func stopCluster(ctx context.Context, f *fixture) error {
	ids, err := f.processIDs()
	if err != nil {
		return err
	}
	if err := f.stdin.Close(); err != nil {
		return err
	}
	if err := f.up.Wait(); err != nil {
		return fmt.Errorf("up: %w", err)
	}
	f.up = nil
	if _, err := os.Stat(filepath.Join(f.dir, "ready")); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("the ready file is still there: %v", err)
	}
	return f.allGone(ctx, ids)
}

func killCluster(ctx context.Context, f *fixture) error {
	if err := f.launch(); err != nil {
		return err
	}
	ids, err := f.processIDs()
	if err != nil {
		return err
	}
	if err := f.up.Process.Kill(); err != nil {
		return err
	}
	_ = f.up.Wait() // killed, as asked
	f.up = nil
	return f.allGone(ctx, ids)
}

// processIDs answers those of the five components.
func (f *fixture) processIDs() ([]int, error) {
	files, err := filepath.Glob(filepath.Join(f.dir, "*.pid"))
	if err != nil {
		return nil, err
	}
	var ids []int
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		id, err := strconv.Atoi(strings.TrimSpace(string(content)))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if err := unix.Kill(id, 0); err != nil {
			return nil, fmt.Errorf("process %d of %s: %w", id, file, err)
		}
		ids = append(ids, id)
	}
	if len(ids) != 5 {
		return nil, fmt.Errorf("%d components run, want 5: %v", len(ids), files)
	}
	return ids, nil
}

func (f *fixture) allGone(ctx context.Context, ids []int) error {
	return eventually(ctx, func() error {
		for _, id := range ids {
			if !dead(id) {
				return fmt.Errorf("process %d is still there", id)
			}
		}
		connection, err := net.Dial("tcp", f.server)
		if err == nil {
			connection.Close()
			return fmt.Errorf("%s still accepts connections", f.server)
		}
		return nil
	})
}

// dead counts a zombie too: in a container nobody may be there to reap the
// orphans of a killed parent.
func dead(id int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", id))
	if err != nil {
		return true
	}
	// The state follows the command, which may hold anything but ends with ')'.
	_, state, _ := strings.Cut(string(stat)[strings.LastIndexByte(string(stat), ')'):], " ")
	return strings.HasPrefix(state, "Z")
}
