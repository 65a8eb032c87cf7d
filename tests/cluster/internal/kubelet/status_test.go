package kubelet

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var (
	noon = metav1.NewTime(time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC))
	here = placement{hostIPs: []string{"192.0.2.1", "2001:db8::1"}, podIPs: []string{"10.244.1.2", "fd00:1::2"}}
)

func podOf(annotations map[string]string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{UID: "u", Generation: 4, Annotations: annotations},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "agnhost"}}},
	}
}

// conditionsOf answers each condition's status, by type.
func conditionsOf(status corev1.PodStatus) map[corev1.PodConditionType]corev1.ConditionStatus {
	all := map[corev1.PodConditionType]corev1.ConditionStatus{}
	for _, condition := range status.Conditions {
		all[condition.Type] = condition.Status
	}
	return all
}

func TestAPodThatWaitsForItsRunnerIsPendingButHasItsAddresses(t *testing.T) {
	started := false
	condition := func(kind corev1.PodConditionType, status corev1.ConditionStatus) corev1.PodCondition {
		return corev1.PodCondition{Type: kind, Status: status, LastTransitionTime: noon, ObservedGeneration: 4}
	}
	want := corev1.PodStatus{
		Phase: corev1.PodPending,
		PodIP: "10.244.1.2", PodIPs: []corev1.PodIP{{IP: "10.244.1.2"}, {IP: "fd00:1::2"}},
		HostIP: "192.0.2.1", HostIPs: []corev1.HostIP{{IP: "192.0.2.1"}, {IP: "2001:db8::1"}},
		StartTime: &noon,
		ContainerStatuses: []corev1.ContainerStatus{{
			Name: "c", Image: "agnhost", ImageID: "fake://agnhost", Started: &started,
			State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}},
		}},
		Conditions: []corev1.PodCondition{
			condition(corev1.PodScheduled, corev1.ConditionTrue),
			condition(corev1.PodReadyToStartContainers, corev1.ConditionFalse),
			condition(corev1.PodInitialized, corev1.ConditionTrue),
			condition(corev1.ContainersReady, corev1.ConditionFalse),
			condition(corev1.PodReady, corev1.ConditionFalse),
		},
	}
	if got := podStatus(podOf(nil), here, StartByRunner, noon); !equality.Semantic.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestPhaseAndReadinessFollowTheRunnerAndTheAnnotations(t *testing.T) {
	for _, c := range []struct {
		name        string
		start       Start
		annotations map[string]string
		was         corev1.PodPhase
		ending      bool
		phase       corev1.PodPhase
		ready       corev1.ConditionStatus
	}{
		{"at once", StartAtOnce, nil, "", false, "Running", "True"},
		{"the runner says so", StartByRunner, map[string]string{AnnotationRunning: "true"}, "Pending", false, "Running", "True"},
		{"the runner says no more", StartByRunner, map[string]string{AnnotationRunning: "false"}, "Running", false, "Running", "False"},
		{"a test says unready", StartAtOnce, map[string]string{AnnotationReady: "false"}, "Running", false, "Running", "False"},
		{"deleted and serving", StartAtOnce, nil, "Running", true, "Running", "True"},
		{"deleted and failing its probe", StartAtOnce, map[string]string{AnnotationUnreadyOnEnd: "true"}, "Running", true, "Running", "False"},
		{"failing its probe only once deleted", StartAtOnce, map[string]string{AnnotationUnreadyOnEnd: "true"}, "Running", false, "Running", "True"},
		{"exited", StartAtOnce, map[string]string{AnnotationPhase: "Succeeded"}, "Running", false, "Succeeded", "False"},
	} {
		pod := podOf(c.annotations)
		pod.Status.Phase = c.was
		if c.ending {
			pod.DeletionTimestamp = &noon
		}
		got := podStatus(pod, here, c.start, noon)
		if ready := conditionsOf(got)[corev1.PodReady]; got.Phase != c.phase || ready != c.ready {
			t.Errorf("%s: %s, Ready %s; want %s, Ready %s", c.name, got.Phase, ready, c.phase, c.ready)
		}
	}
}

func TestAPodIsReadyOnlyWhenItsReadinessGatesAreOpen(t *testing.T) {
	pod := podOf(nil)
	pod.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "example.com/gate"}}
	closed := conditionsOf(podStatus(pod, here, StartAtOnce, noon))
	if closed[corev1.ContainersReady] != "True" || closed[corev1.PodReady] != "False" {
		t.Errorf("gate closed: %v", closed)
	}
	pod.Status.Conditions = []corev1.PodCondition{{Type: "example.com/gate", Status: corev1.ConditionTrue}}
	open := conditionsOf(podStatus(pod, here, StartAtOnce, noon))
	if open["example.com/gate"] != "True" || open[corev1.PodReady] != "True" {
		t.Errorf("gate open: %v", open)
	}
}

func TestAStatusThatIsUpToDateIsLeftAsItIs(t *testing.T) {
	pod := podOf(nil)
	pod.Status = podStatus(pod, here, StartAtOnce, noon)
	later := metav1.NewTime(noon.Add(time.Hour))
	if got := podStatus(pod, here, StartAtOnce, later); !equality.Semantic.DeepEqual(got, pod.Status) {
		t.Errorf("got  %+v\nwant %+v", got, pod.Status)
	}
}
