package kubelet

// Annotations by which a test, or the lab's pod runner, steers the fake kubelet.
const (
	// AnnotationRunning on a Pod: "true" says that its processes are there. It
	// matters with StartByRunner only; any other value makes a Pod that was
	// running unready again.
	AnnotationRunning = "lab.sluice.dev/running"
	// AnnotationNetns on a Pod: the network namespace that exec enters, by its
	// absolute path or its name under /run/netns.
	AnnotationNetns = "lab.sluice.dev/netns"
	// AnnotationCgroup on a Pod: the cgroup2 directory (absolute) that exec puts
	// the command into, so that socket programs on the node's cgroup see it.
	AnnotationCgroup = "lab.sluice.dev/cgroup"
	// AnnotationPodIPs on a Pod: its addresses, comma separated, the first one
	// becoming podIP. Without it the Pod gets one of each of its node's podCIDRs.
	AnnotationPodIPs = "lab.sluice.dev/pod-ips"
	// AnnotationReady on a Pod: "false" keeps a running Pod unready.
	AnnotationReady = "lab.sluice.dev/ready"
	// AnnotationPhase on a Pod: "Succeeded" or "Failed", its containers have
	// exited for good.
	AnnotationPhase = "lab.sluice.dev/phase"
	// AnnotationHold on a Pod: "true" keeps the fake kubelet's hands off it, it
	// neither starts nor ends.
	AnnotationHold = "lab.sluice.dev/hold"
	// AnnotationEndAfter on a Pod: how long after its deletion it is gone (a Go
	// duration). The grace period still bounds it.
	AnnotationEndAfter = "lab.sluice.dev/end-after"
	// AnnotationUnreadyOnEnd on a Pod: "true" makes it unready as soon as it is
	// being deleted, as a failing readiness probe would.
	AnnotationUnreadyOnEnd = "lab.sluice.dev/unready-on-end"
	// AnnotationNodeIPs on a Node: its InternalIPs, comma separated.
	AnnotationNodeIPs = "lab.sluice.dev/node-ips"
)
