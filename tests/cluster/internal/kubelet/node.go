package kubelet

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// syncNode writes what nodeStatus answers, if that differs. The write carries
// the resource version: what somebody else changes meanwhile is never undone.
func (k *kubelet) syncNode(ctx context.Context, node *corev1.Node) error {
	status := nodeStatus(node, k.execPort, metav1.Now())
	if equality.Semantic.DeepEqual(status, node.Status) {
		return nil
	}
	node = node.DeepCopy()
	node.Status = status
	_, err := k.client.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{})
	return ignoreNotFound(err)
}

// nodeStatus completes what a Node's status lacks; what a test has set stays.
func nodeStatus(node *corev1.Node, execPort int32, now metav1.Time) corev1.NodeStatus {
	status := *node.Status.DeepCopy()
	if ips := node.Annotations[AnnotationNodeIPs]; ips != "" {
		status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: node.Name}}
		for _, ip := range splitList(ips) {
			status.Addresses = append(status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip})
		}
	}
	if execPort != 0 {
		status.DaemonEndpoints.KubeletEndpoint.Port = execPort
		// The API server dials ExternalDNS before anything else, since the
		// InternalIPs are inside the node's network namespace.
		dial := corev1.NodeAddress{Type: corev1.NodeExternalDNS, Address: "localhost"}
		if !slices.Contains(status.Addresses, dial) {
			status.Addresses = append(status.Addresses, dial)
		}
	}
	isReady := func(c corev1.NodeCondition) bool { return c.Type == corev1.NodeReady }
	if !slices.ContainsFunc(status.Conditions, isReady) {
		status.Conditions = append(status.Conditions, corev1.NodeCondition{
			Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "FakeKubelet",
			LastHeartbeatTime: now, LastTransitionTime: now,
		})
	}
	if status.Allocatable == nil {
		// Roomy enough that the scheduler never refuses a node for want of room.
		status.Capacity = corev1.ResourceList{
			corev1.ResourceCPU:    resource.MustParse("64"),
			corev1.ResourceMemory: resource.MustParse("256Gi"),
			corev1.ResourcePods:   resource.MustParse("1000"),
		}
		status.Allocatable = status.Capacity.DeepCopy()
	}
	return status
}

// internalIPs answers the addresses of a node that its Pods call hostIPs.
func internalIPs(node *corev1.Node) []string {
	var ips []string
	for _, address := range node.Status.Addresses {
		if address.Type == corev1.NodeInternalIP {
			ips = append(ips, address.Address)
		}
	}
	return ips
}
