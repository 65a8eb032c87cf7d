#!/bin/busybox sh
# The first process of the kernel under test. The host's files are seen through 9p, read only, with memory above them for
# what is written; the folder "out" is the host's to read. Runs out/job there and turns the machine off.
/bin/busybox mkdir -p /proc /sys /dev /lower /above /new
/bin/busybox --install -s /bin
export PATH=/bin

fail() { echo "guest: $*"; echo o > /proc/sysrq-trigger; sleep 60; }

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in $(cat /modules/order); do insmod "/modules/$module" || fail "no module $module"; done
over9p="trans=virtio,version=9p2000.L,msize=512000"
mount -t 9p -o "$over9p,ro,cache=loose" root /lower || fail "no file system of the host"
mount -t tmpfs -o size=2g above /above
mkdir /above/files /above/work
mount -t overlay -o lowerdir=/lower,upperdir=/above/files,workdir=/above/work root /new || fail "no overlay"

mkdir -p /new/lib/modules /new/proc /new/sys /new/dev /new/run /new/tmp /new/mnt/kernels
mount -t tmpfs run /new/run
mount -t tmpfs -o size=1g tmp /new/tmp
mount -t 9p -o "$over9p" out /new/mnt/kernels || fail "no folder for the results"
# Shadows the modules of the host's kernel, so that the kernel finds its own when it asks for one.
mount --bind "/new$(cat /modules/folder)" /new/lib/modules || fail "no folder for modules"

mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t cgroup2 none /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
ip link set lo up
hostname kernels
for tree in proc sys dev; do mount --rbind /$tree /new/$tree; done
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
echo "guest: $(uname -r) runs"
# As switch_root(8): what enters another mount namespace begins at its root, and the kernel, which looks for modprobe where its
# first process is, comes along.
cd /new || fail "no new root"
mount --move . /
exec chroot . /bin/bash -c '/bin/bash /mnt/kernels/job; sync; echo o > /proc/sysrq-trigger; sleep 60'
