package kubelet

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestADeletedPodEndsWithItsGraceOrEarlierIfSomebodyWishes(t *testing.T) {
	deleted := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name     string
		grace    int64
		maxGrace time.Duration
		endAfter string
		want     time.Duration // after the DELETE
	}{
		{"its own grace period", 30, 0, "", 30 * time.Second},
		{"the rule is shorter", 30, 2 * time.Second, "", 2 * time.Second},
		{"the rule is longer", 1, 2 * time.Second, "", time.Second},
		{"the annotation beats the rule", 30, 2 * time.Second, "5s", 5 * time.Second},
		{"the annotation without a rule", 30, 0, "100ms", 100 * time.Millisecond},
		{"the annotation says at once", 30, 2 * time.Second, "0s", 0},
		{"the grace period bounds the annotation", 30, 0, "1h", 30 * time.Second},
		{"an annotation that is no duration", 30, 2 * time.Second, "soon", 2 * time.Second},
	} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			Annotations:                map[string]string{AnnotationEndAfter: c.endAfter},
			DeletionGracePeriodSeconds: &c.grace,
			DeletionTimestamp:          &metav1.Time{Time: deleted.Add(time.Duration(c.grace) * time.Second)},
		}}
		if got := endsAt(pod, c.maxGrace).Sub(deleted); got != c.want {
			t.Errorf("%s: ends %s after the deletion, want %s", c.name, got, c.want)
		}
	}
}

func TestOnlyAPodThatRunsHasSomethingLeftToEnd(t *testing.T) {
	address := []corev1.PodIP{{IP: "10.0.0.2"}}
	for _, c := range []struct {
		status corev1.PodStatus
		want   bool
	}{
		{corev1.PodStatus{Phase: corev1.PodPending}, false},
		{corev1.PodStatus{Phase: corev1.PodPending, PodIPs: address}, true},
		{corev1.PodStatus{Phase: corev1.PodRunning, PodIPs: address}, true},
		{corev1.PodStatus{Phase: corev1.PodSucceeded, PodIPs: address}, false},
		{corev1.PodStatus{Phase: corev1.PodFailed, PodIPs: address}, false},
	} {
		if got := livesOn(&corev1.Pod{Status: c.status}); got != c.want {
			t.Errorf("%s with addresses %v: got %t", c.status.Phase, c.status.PodIPs, got)
		}
	}
}
