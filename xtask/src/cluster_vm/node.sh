# What the machine of a node runs: its network, containerd, the images, the kubelet. The folder /mnt/kernels is the host's.
out=/mnt/kernels
. $out/node.env
log() { echo "node: $*"; }

# As systemd leaves it. The BPF file system is for the init container to mount.
mount --make-rshared /
umount /sys/fs/bpf
mount -t tmpfs run /run
mkdir -p /var/lib/containerd /var/lib/kubelet /run/netns
mount -t tmpfs containerd /var/lib/containerd
mount -t tmpfs kubelet /var/lib/kubelet

hostname "$NODE"
modprobe virtio_net
read -r gateway4 gateway6 <<<"$GATEWAYS"
ip address add "$IPV4/24" dev eth0
ip address add "$IPV6/64" dev eth0 nodad
ip link set eth0 up
ip route add default via "$gateway4"
ip route add default via "$gateway6"
for pair in $ROUTES; do ip route add "${pair%,*}" via "${pair#*,}"; done
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1

export PATH=$BIN:$SBIN:$PATH
log "containerd starts"
containerd --config $out/containerd.toml > $out/containerd.log 2>&1 &
until ctr version > /dev/null 2>&1; do sleep 0.5; done
for image in $IMAGES; do
	log "importing $image"
	ctr --namespace k8s.io images import "$image" >> $out/images.log 2>&1 || log "$image cannot be imported"
done
log "the kubelet starts"
"$KUBELET" --config $out/kubelet.yaml --kubeconfig "$KUBECONFIG" --hostname-override "$NODE" \
	--node-ip "$IPV4,$IPV6" --root-dir /var/lib/kubelet > $out/kubelet.log 2>&1
log "the kubelet ended with $?"
