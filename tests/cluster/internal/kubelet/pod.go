package kubelet

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// How soon to ask again for what another component has yet to write.
const retry = 50 * time.Millisecond

// syncPod ends the Pod if it is time to, and otherwise writes what podStatus
// answers, if that differs.
func (k *kubelet) syncPod(ctx context.Context, pod *corev1.Pod) (time.Duration, error) {
	var left time.Duration
	if pod.DeletionTimestamp != nil {
		left = time.Until(endsAt(pod, k.rules.MaxGrace))
		if left <= 0 || !livesOn(pod) {
			return 0, k.remove(ctx, pod)
		}
	}
	node, err := k.nodes.Get(pod.Spec.NodeName)
	if apierrors.IsNotFound(err) {
		return retry, nil
	} else if err != nil {
		return 0, err
	}
	addresses, err := k.addressesOf(pod, node)
	if err != nil {
		return 0, err
	}
	if len(addresses) == 0 {
		return retry, nil
	}
	status := podStatus(pod, placement{hostIPs: internalIPs(node), podIPs: addresses}, k.rules.Start, metav1.Now())
	if equality.Semantic.DeepEqual(status, pod.Status) {
		return left, nil
	}
	// The write carries UID and resource version, so it never hits a Pod of the
	// same name made since, nor undoes what somebody else has written.
	pod = pod.DeepCopy()
	pod.Status = status
	_, err = k.client.CoreV1().Pods(pod.Namespace).UpdateStatus(ctx, pod, metav1.UpdateOptions{})
	return left, ignoreNotFound(err)
}

// remove ends the Pod for good, as a kubelet does when its containers are gone.
func (k *kubelet) remove(ctx context.Context, pod *corev1.Pod) error {
	now := int64(0)
	err := k.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: &now,
		Preconditions:      metav1.NewUIDPreconditions(string(pod.UID)),
	})
	return ignoreNotFound(err)
}

// addressesOf answers the addresses that the Pod has or now gets; none as long
// as its node has none to give.
func (k *kubelet) addressesOf(pod *corev1.Pod, node *corev1.Node) ([]string, error) {
	if len(pod.Status.PodIPs) > 0 {
		var has []string
		for _, ip := range pod.Status.PodIPs {
			has = append(has, ip.IP)
		}
		return has, nil
	}
	if pod.Spec.HostNetwork {
		return internalIPs(node), nil
	}
	if chosen := pod.Annotations[AnnotationPodIPs]; chosen != "" {
		return splitList(chosen), nil
	}
	var lent []string
	for _, cidr := range node.Spec.PodCIDRs {
		address, err := k.addresses.take(cidr, pod.UID)
		if err != nil {
			return nil, err
		}
		lent = append(lent, address)
	}
	return lent, nil
}
