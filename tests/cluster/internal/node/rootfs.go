package node

import (
	"fmt"
	"os"
	"path/filepath"

	securejoin "github.com/cyphar/filepath-securejoin"
	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// rootfs is the file system of one container: a layer in memory over the
// machine's root, so that whatever a container writes goes with it.
type rootfs struct {
	// base is an empty folder on the machine, the container's own.
	base string
	// files are written before the container starts: path to content.
	files map[string]string
	// links are symbolic links at the root: name to target on the machine.
	links  map[string]string
	mounts []*runtimeapi.Mount
}

// enter gives the calling thread a mount namespace of its own whose root is the
// container's. The thread must be locked to its goroutine and never be unlocked:
// processes that it starts inherit the root, nothing else sees it.
func (r rootfs) enter() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("new mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keep mounts private: %w", err)
	}
	root, err := r.layer()
	if err != nil {
		return err
	}
	if err := r.fill(root); err != nil {
		return err
	}
	for _, mount := range r.mounts {
		if err := bind(root, mount); err != nil {
			return fmt.Errorf("mount %s at %s: %w", mount.HostPath, mount.ContainerPath, err)
		}
	}
	if err := os.Chdir(root); err != nil {
		return err
	}
	// The old root is stacked on the new one and taken away from there.
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the old root: %w", err)
	}
	return os.Chdir("/")
}

// layer mounts the overlay and answers its root.
func (r rootfs) layer() (string, error) {
	if err := unix.Mount("tmpfs", r.base, "tmpfs", 0, "mode=755"); err != nil {
		return "", fmt.Errorf("memory for a container's files: %w", err)
	}
	upper, work, root := filepath.Join(r.base, "upper"), filepath.Join(r.base, "work"), filepath.Join(r.base, "root")
	for _, folder := range []string{upper, work, root} {
		if err := os.Mkdir(folder, 0o755); err != nil {
			return "", err
		}
	}
	options := fmt.Sprintf("lowerdir=/,upperdir=%s,workdir=%s", upper, work)
	if err := unix.Mount("overlay", root, "overlay", 0, options); err != nil {
		return "", fmt.Errorf("overlay: %w", err)
	}
	return root, nil
}

// fill mounts what every container has and writes its files.
func (r rootfs) fill(root string) error {
	if err := unix.Mount("proc", filepath.Join(root, "proc"), "proc", 0, ""); err != nil {
		return fmt.Errorf("proc: %w", err)
	}
	// That of the network namespace that the thread is in.
	if err := unix.Mount("sysfs", filepath.Join(root, "sys"), "sysfs", 0, ""); err != nil {
		return fmt.Errorf("sysfs: %w", err)
	}
	dev := filepath.Join(root, "dev")
	if err := unix.Mount("tmpfs", dev, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("dev: %w", err)
	}
	for _, device := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		node := &runtimeapi.Mount{HostPath: "/dev/" + device, ContainerPath: "/dev/" + device}
		if err := bind(root, node); err != nil {
			return fmt.Errorf("device %s: %w", device, err)
		}
	}
	for name, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		if err := os.Symlink(target, filepath.Join(dev, name)); err != nil {
			return err
		}
	}
	for path, content := range r.files {
		target, err := securejoin.SecureJoin(root, path)
		if err != nil {
			return err
		}
		// A link of the machine would otherwise be written through.
		_ = os.Remove(target)
		if err := os.WriteFile(target, []byte(content), 0o644); err != nil {
			return err
		}
	}
	for name, target := range r.links {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil && !os.IsExist(err) {
			return err
		}
	}
	return nil
}

// bind mounts a file or folder of the machine in the container, and makes the
// place for it. Links in the container are followed inside the container.
func bind(root string, mount *runtimeapi.Mount) error {
	target, err := securejoin.SecureJoin(root, mount.ContainerPath)
	if err != nil {
		return err
	}
	source, err := os.Stat(mount.HostPath)
	if err != nil {
		return err
	}
	if source.IsDir() {
		err = os.MkdirAll(target, 0o755)
	} else if err = os.MkdirAll(filepath.Dir(target), 0o755); err == nil {
		var file *os.File
		if file, err = os.OpenFile(target, os.O_CREATE, 0o644); err == nil {
			err = file.Close()
		}
	}
	if err != nil {
		return err
	}
	if err := unix.Mount(mount.HostPath, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	if !mount.Readonly {
		return nil
	}
	return unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
}
