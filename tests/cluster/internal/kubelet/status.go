package kubelet

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// placement is where a Pod is, in addresses.
type placement struct {
	hostIPs []string
	podIPs  []string
}

// podStatus answers the status that a kubelet would report for the Pod. It is a
// function of its arguments alone.
func podStatus(pod *corev1.Pod, at placement, start Start, now metav1.Time) corev1.PodStatus {
	status := *pod.Status.DeepCopy()
	status.PodIP, status.PodIPs = at.podIPs[0], nil
	for _, ip := range at.podIPs {
		status.PodIPs = append(status.PodIPs, corev1.PodIP{IP: ip})
	}
	status.HostIP, status.HostIPs = "", nil
	for _, ip := range at.hostIPs {
		status.HostIPs = append(status.HostIPs, corev1.HostIP{IP: ip})
	}
	if len(at.hostIPs) > 0 {
		status.HostIP = at.hostIPs[0]
	}
	if status.StartTime == nil {
		status.StartTime = &now
	}
	started := start == StartAtOnce || pod.Annotations[AnnotationRunning] == "true"
	status.Phase = phase(pod, started)
	running := status.Phase == corev1.PodRunning
	ending := pod.DeletionTimestamp != nil
	ready := running && started && pod.Annotations[AnnotationReady] != "false" &&
		!(ending && pod.Annotations[AnnotationUnreadyOnEnd] == "true")

	status.ContainerStatuses = containerStatuses(pod, status.Phase, *status.StartTime, ready)
	conditions := conditionSet{list: status.Conditions, generation: pod.Generation, now: now}
	conditions.set(corev1.PodScheduled, true)
	conditions.set(corev1.PodReadyToStartContainers, running)
	conditions.set(corev1.PodInitialized, true)
	conditions.set(corev1.ContainersReady, ready)
	conditions.set(corev1.PodReady, ready && conditions.gatesOpen(pod.Spec.ReadinessGates))
	status.Conditions = conditions.list
	return status
}

func phase(pod *corev1.Pod, started bool) corev1.PodPhase {
	if wish := pod.Annotations[AnnotationPhase]; wish != "" {
		return corev1.PodPhase(wish)
	}
	if started || pod.Status.Phase == corev1.PodRunning {
		return corev1.PodRunning // never Pending again
	}
	return corev1.PodPending
}

func containerStatuses(pod *corev1.Pod, phase corev1.PodPhase, since metav1.Time, ready bool) []corev1.ContainerStatus {
	var all []corev1.ContainerStatus
	for _, container := range pod.Spec.Containers {
		started := phase == corev1.PodRunning
		status := corev1.ContainerStatus{
			Name: container.Name, Image: container.Image, ImageID: "fake://" + container.Image,
			ContainerID: "fake://" + string(pod.UID) + "/" + container.Name,
			Ready:       ready, Started: &started,
		}
		switch phase {
		case corev1.PodRunning:
			status.State.Running = &corev1.ContainerStateRunning{StartedAt: since}
		case corev1.PodPending:
			status.ContainerID = ""
			status.State.Waiting = &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}
		default:
			var code int32
			if phase == corev1.PodFailed {
				code = 1
			}
			status.State.Terminated = &corev1.ContainerStateTerminated{ExitCode: code, StartedAt: since, FinishedAt: since}
		}
		all = append(all, status)
	}
	return all
}

// conditionSet changes the conditions that differ and leaves all others, such as
// readiness gates that a test has written, as they are.
type conditionSet struct {
	list       []corev1.PodCondition
	generation int64
	now        metav1.Time
}

func (s *conditionSet) set(kind corev1.PodConditionType, holds bool) {
	status := corev1.ConditionFalse
	if holds {
		status = corev1.ConditionTrue
	}
	for i := range s.list {
		if s.list[i].Type != kind {
			continue
		}
		if s.list[i].Status != status {
			s.list[i] = s.condition(kind, status)
		}
		return
	}
	s.list = append(s.list, s.condition(kind, status))
}

func (s *conditionSet) condition(kind corev1.PodConditionType, status corev1.ConditionStatus) corev1.PodCondition {
	return corev1.PodCondition{Type: kind, Status: status, LastTransitionTime: s.now, ObservedGeneration: s.generation}
}

func (s *conditionSet) gatesOpen(gates []corev1.PodReadinessGate) bool {
	for _, gate := range gates {
		open := false
		for _, condition := range s.list {
			open = open || condition.Type == gate.ConditionType && condition.Status == corev1.ConditionTrue
		}
		if !open {
			return false
		}
	}
	return true
}
