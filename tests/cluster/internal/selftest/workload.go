package selftest

import (
	"context"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"sluice.dev/tests/cluster/internal/kubelet"
)

const (
	namespace = metav1.NamespaceDefault
	replicas  = 3
)

var (
	webLabels   = map[string]string{"app": "web"}
	webSelector = metav1.ListOptions{LabelSelector: "app=web"}
	webSlices   = metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=web"}
)

func createNodes(ctx context.Context, f *fixture) error {
	for i, name := range []string{"node-a", "node-b"} {
		_, err := f.client.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{
			Name:        name,
			Labels:      map[string]string{corev1.LabelHostname: name},
			Annotations: map[string]string{kubelet.AnnotationNodeIPs: fmt.Sprintf("192.0.2.%d,2001:db8::%d", i+1, i+1)},
		}}, metav1.CreateOptions{})
		if err != nil {
			return err
		}
	}
	return eventually(ctx, func() error {
		nodes, err := f.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, node := range nodes.Items {
			var ips []string
			for _, address := range node.Status.Addresses {
				if address.Type == corev1.NodeInternalIP {
					ips = append(ips, address.Address)
				}
			}
			if len(ips) != 2 || len(node.Spec.PodCIDRs) != 2 {
				return fmt.Errorf("%s has InternalIPs %v and podCIDRs %v", node.Name, ips, node.Spec.PodCIDRs)
			}
		}
		return nil
	})
}

func createWorkload(ctx context.Context, f *fixture) error {
	count, dual := int32(replicas), corev1.IPFamilyPolicyRequireDualStack
	_, err := f.client.AppsV1().Deployments(namespace).Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &count,
			Selector: &metav1.LabelSelector{MatchLabels: webLabels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: webLabels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{
					Name: "agnhost", Image: "agnhost", Args: []string{"netexec"},
					Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
				}}},
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	_, err = f.client.CoreV1().Services(namespace).Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: corev1.ServiceSpec{
			Selector: webLabels, IPFamilyPolicy: &dual,
			Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromString("http")}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	return eventually(ctx, func() error {
		pods, err := f.pods(ctx)
		if err != nil || len(pods) != replicas {
			return fmt.Errorf("%d Pods, error %v", len(pods), err)
		}
		for _, pod := range pods {
			if pod.Status.Phase != corev1.PodPending || len(pod.Status.PodIPs) != 2 {
				return fmt.Errorf("%s is %s with addresses %v", pod.Name, pod.Status.Phase, pod.Status.PodIPs)
			}
		}
		return nil
	})
}

func endpointsNotReady(ctx context.Context, f *fixture) error {
	return f.expectEndpoints(ctx, false)
}

// standUp does what the pod runner does once a Pod's processes are there.
func standUp(ctx context.Context, f *fixture) error {
	pods, err := f.pods(ctx)
	if err != nil {
		return err
	}
	for _, pod := range pods {
		patch := fmt.Appendf(nil, `{"metadata":{"uid":%q,"annotations":{%q:"true",%q:%q,%q:%q}}}`,
			pod.UID, kubelet.AnnotationRunning, kubelet.AnnotationNetns, f.netns, kubelet.AnnotationCgroup, f.cgroup)
		_, err := f.client.CoreV1().Pods(namespace).Patch(ctx, pod.Name, types.MergePatchType, patch, metav1.PatchOptions{})
		if err != nil {
			return err
		}
	}
	return f.expectEndpoints(ctx, true)
}

func scaleDown(ctx context.Context, f *fixture) error {
	patch := []byte(`{"spec":{"replicas":0}}`)
	if _, err := f.client.AppsV1().Deployments(namespace).Patch(ctx, "web", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return err
	}
	return eventually(ctx, func() error {
		pods, err := f.pods(ctx)
		if err != nil {
			return err
		}
		slices, err := f.client.DiscoveryV1().EndpointSlices(namespace).List(ctx, webSlices)
		if err != nil {
			return err
		}
		left := 0
		for _, slice := range slices.Items {
			left += len(slice.Endpoints)
		}
		if len(pods)+left > 0 {
			return fmt.Errorf("%d Pods and %d endpoints are left", len(pods), left)
		}
		return nil
	})
}

func (f *fixture) pods(ctx context.Context) ([]corev1.Pod, error) {
	list, err := f.client.CoreV1().Pods(namespace).List(ctx, webSelector)
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

// expectEndpoints waits until the slices of each family hold exactly the
// addresses of the Pods, all of them ready or none.
func (f *fixture) expectEndpoints(ctx context.Context, ready bool) error {
	pods, err := f.pods(ctx)
	if err != nil {
		return err
	}
	want := map[discoveryv1.AddressType][]string{}
	for _, pod := range pods {
		want[discoveryv1.AddressTypeIPv4] = append(want[discoveryv1.AddressTypeIPv4], pod.Status.PodIPs[0].IP)
		want[discoveryv1.AddressTypeIPv6] = append(want[discoveryv1.AddressTypeIPv6], pod.Status.PodIPs[1].IP)
	}
	return eventually(ctx, func() error {
		list, err := f.client.DiscoveryV1().EndpointSlices(namespace).List(ctx, webSlices)
		if err != nil {
			return err
		}
		got := map[discoveryv1.AddressType][]string{}
		for _, slice := range list.Items {
			for _, endpoint := range slice.Endpoints {
				if endpoint.Conditions.Ready == nil || *endpoint.Conditions.Ready != ready {
					return fmt.Errorf("endpoint %v is not what was expected, ready=%t", endpoint, ready)
				}
				got[slice.AddressType] = append(got[slice.AddressType], endpoint.Addresses...)
			}
		}
		for family, addresses := range want {
			slices.Sort(addresses)
			slices.Sort(got[family])
			if !slices.Equal(addresses, got[family]) {
				return fmt.Errorf("%s endpoints are %v, the Pods have %v", family, got[family], addresses)
			}
		}
		return nil
	})
}
