package kubelet

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// poolWith answers a pool in whose cluster the given Pods are.
func poolWith(t *testing.T, pods ...*corev1.Pod) *addressPool {
	t.Helper()
	informer := cache.NewSharedIndexInformer(&cache.ListWatch{}, &corev1.Pod{}, 0, cache.Indexers{})
	pool, err := newAddressPool(informer)
	if err != nil {
		t.Fatal(err)
	}
	for _, pod := range pods {
		if err := informer.GetIndexer().Add(pod); err != nil {
			t.Fatal(err)
		}
	}
	return pool
}

func podWith(uid types.UID, ips ...string) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: string(uid), UID: uid}}
	for _, ip := range ips {
		pod.Status.PodIPs = append(pod.Status.PodIPs, corev1.PodIP{IP: ip})
	}
	return pod
}

func expectTake(t *testing.T, pool *addressPool, cidr string, pod types.UID, want string) {
	t.Helper()
	got, err := pool.take(cidr, pod)
	if err != nil || got != want {
		t.Errorf("%s takes %s from %s (error %v), want %s", pod, got, cidr, err, want)
	}
}

func TestAPodGetsTheLowestFreeAddressOfEachFamily(t *testing.T) {
	pool := poolWith(t, podWith("old", "10.244.1.2", "fd00:1::3"))
	expectTake(t, pool, "10.244.1.0/24", "a", "10.244.1.3")
	expectTake(t, pool, "10.244.1.0/24", "b", "10.244.1.4")
	expectTake(t, pool, "fd00:1::/64", "a", "fd00:1::2")
	expectTake(t, pool, "fd00:1::/64", "b", "fd00:1::4")
}

func TestAPodThatAsksAgainGetsTheSameAddress(t *testing.T) {
	pool := poolWith(t)
	expectTake(t, pool, "10.244.1.0/24", "a", "10.244.1.2")
	expectTake(t, pool, "10.244.1.0/24", "a", "10.244.1.2")
}

func TestAReleasedAddressIsLentAgain(t *testing.T) {
	pool := poolWith(t)
	expectTake(t, pool, "10.244.1.0/24", "a", "10.244.1.2")
	pool.release("a")
	expectTake(t, pool, "10.244.1.0/24", "b", "10.244.1.2")
}

func TestAFullRangeIsAnError(t *testing.T) {
	pool := poolWith(t)
	expectTake(t, pool, "10.244.1.0/30", "a", "10.244.1.2")
	expectTake(t, pool, "10.244.1.0/30", "b", "10.244.1.3")
	if got, err := pool.take("10.244.1.0/30", "c"); err == nil {
		t.Errorf("a third Pod got %s", got)
	}
}

func TestTheAddressOfAHostNetworkPodIsNotInTheRangesOfPods(t *testing.T) {
	host := podWith("host", "10.244.1.2")
	host.Spec.HostNetwork = true
	expectTake(t, poolWith(t, host), "10.244.1.0/24", "a", "10.244.1.2")
}
