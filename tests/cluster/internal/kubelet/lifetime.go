package kubelet

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// endsAt answers when a Pod that is being deleted is gone.
//
// The API server sets deletionTimestamp to the time of the DELETE plus the grace
// period, in whole seconds, so a Pod may end up to a second early.
func endsAt(pod *corev1.Pod, maxGrace time.Duration) time.Time {
	last := pod.DeletionTimestamp.Time
	var grace time.Duration
	if seconds := pod.DeletionGracePeriodSeconds; seconds != nil {
		grace = time.Duration(*seconds) * time.Second
	}
	wish := grace
	if maxGrace > 0 {
		wish = maxGrace
	}
	if own, err := time.ParseDuration(pod.Annotations[AnnotationEndAfter]); err == nil {
		wish = own
	}
	if end := last.Add(wish - grace); end.Before(last) {
		return end
	}
	return last
}

// livesOn tells whether a Pod that is being deleted has anything left to end:
// one that never got an address or has exited is gone at once.
func livesOn(pod *corev1.Pod) bool {
	return len(pod.Status.PodIPs) > 0 &&
		pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed
}
