package kubelet

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestANewNodeBecomesReadyWithItsAddressesAndRoomForPods(t *testing.T) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name: "node-a", Annotations: map[string]string{AnnotationNodeIPs: "192.0.2.1, 2001:db8::1"},
	}}
	room := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("64"), corev1.ResourceMemory: resource.MustParse("256Gi"),
		corev1.ResourcePods: resource.MustParse("1000"),
	}
	want := corev1.NodeStatus{
		Capacity: room, Allocatable: room,
		Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeHostName, Address: "node-a"},
			{Type: corev1.NodeInternalIP, Address: "192.0.2.1"},
			{Type: corev1.NodeInternalIP, Address: "2001:db8::1"},
			{Type: corev1.NodeExternalDNS, Address: "localhost"},
		},
		DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: 10250}},
		Conditions: []corev1.NodeCondition{{
			Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "FakeKubelet",
			LastHeartbeatTime: noon, LastTransitionTime: noon,
		}},
	}
	got := nodeStatus(node, 10250, noon)
	if !equality.Semantic.DeepEqual(got, want) {
		t.Fatalf("got  %+v\nwant %+v", got, want)
	}
	node.Status = got
	if again := nodeStatus(node, 10250, metav1.NewTime(noon.Add(time.Hour))); !equality.Semantic.DeepEqual(again, want) {
		t.Errorf("an hour later: %+v", again)
	}
}

func TestWhatATestHasWrittenIntoANodeStays(t *testing.T) {
	node := &corev1.Node{Status: corev1.NodeStatus{
		Addresses:   []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.9"}},
		Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionFalse}},
		Allocatable: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("1")},
	}}
	if got := nodeStatus(node, 0, noon); !equality.Semantic.DeepEqual(got, node.Status) {
		t.Errorf("got %+v, want %+v", got, node.Status)
	}
}
