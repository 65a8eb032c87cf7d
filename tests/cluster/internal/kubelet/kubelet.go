// Package kubelet stands in for the kubelets of all nodes: it gives Pods their
// addresses and their status, lets deleted ones end, and serves exec.
//
// It starts no containers. Whether a process stands behind a Pod is known to
// whoever made it, the lab's pod runner, who says so with annotations.
package kubelet

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
)

// Start says when a scheduled Pod counts as running.
type Start string

const (
	// StartAtOnce is for tests that look at API objects only.
	StartAtOnce Start = "at-once"
	// StartByRunner waits for AnnotationRunning. Until then the Pod is Pending,
	// but holds its addresses already: they are what its namespace is made with.
	StartByRunner Start = "by-runner"
)

// Rules are what a test may choose about the life of Pods.
type Rules struct {
	Start Start
	// MaxGrace is how long after its deletion a Pod lives that has no
	// AnnotationEndAfter; 0 for its whole grace period. Real Pods mostly exit on
	// SIGTERM, long before the usual 30 s are over.
	MaxGrace time.Duration
}

// The ways a key can go in the queue.
const (
	podKey  = "pod:"
	nodeKey = "node:"
	workers = 4
)

type kubelet struct {
	client    kubernetes.Interface
	pods      corelisters.PodLister
	nodes     corelisters.NodeLister
	queue     workqueue.TypedRateLimitingInterface[string]
	addresses *addressPool
	rules     Rules
	// execPort is what Nodes announce as their kubelet's port; 0 for none.
	execPort int32
}

// Run plays all kubelets of the cluster until ctx ends. exec may be nil.
func Run(ctx context.Context, client kubernetes.Interface, rules Rules, exec *ExecListener) error {
	factory := informers.NewSharedInformerFactory(client, 0)
	pods, nodes := factory.Core().V1().Pods(), factory.Core().V1().Nodes()
	addresses, err := newAddressPool(pods.Informer())
	if err != nil {
		return err
	}
	k := &kubelet{
		client: client, pods: pods.Lister(), nodes: nodes.Lister(), addresses: addresses, rules: rules,
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[string](20*time.Millisecond, 5*time.Second)),
	}
	if exec != nil {
		k.execPort = exec.port()
		go exec.serve(ctx, k.pods)
	}
	if _, err := pods.Informer().AddEventHandler(k.enqueue(podKey)); err != nil {
		return err
	}
	if _, err := nodes.Informer().AddEventHandler(k.enqueue(nodeKey)); err != nil {
		return err
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	for range workers {
		go k.work(ctx)
	}
	<-ctx.Done()
	k.queue.ShutDown()
	return nil
}

func (k *kubelet) enqueue(prefix string) cache.ResourceEventHandlerFuncs {
	add := func(object any) {
		if key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(object); err == nil {
			k.queue.Add(prefix + key)
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    add,
		UpdateFunc: func(_, object any) { add(object) },
		DeleteFunc: func(object any) {
			if missed, ok := object.(cache.DeletedFinalStateUnknown); ok {
				object = missed.Obj
			}
			if pod, ok := object.(*corev1.Pod); ok {
				k.addresses.release(pod.UID)
			}
		},
	}
}

func (k *kubelet) work(ctx context.Context) {
	for {
		key, quit := k.queue.Get()
		if quit {
			return
		}
		again, err := k.sync(ctx, key)
		switch {
		case err == nil:
			k.queue.Forget(key)
			if again > 0 {
				k.queue.AddAfter(key, again)
			}
		default:
			// A conflict says that our copy is old; the new one is on its way.
			if ctx.Err() == nil && !apierrors.IsConflict(err) {
				fmt.Fprintln(os.Stderr, "fake-kubelet:", key, err)
			}
			k.queue.AddRateLimited(key)
		}
		k.queue.Done(key)
	}
}

// sync brings one object up to date. It answers how long to wait before looking
// at it again although nothing has changed, 0 for never.
func (k *kubelet) sync(ctx context.Context, key string) (time.Duration, error) {
	if name, ok := strings.CutPrefix(key, nodeKey); ok {
		node, err := k.nodes.Get(name)
		if err != nil {
			return 0, ignoreNotFound(err)
		}
		return 0, k.syncNode(ctx, node)
	}
	namespace, name, err := cache.SplitMetaNamespaceKey(strings.TrimPrefix(key, podKey))
	if err != nil {
		return 0, err
	}
	pod, err := k.pods.Pods(namespace).Get(name)
	if err != nil {
		return 0, ignoreNotFound(err)
	}
	if pod.Spec.NodeName == "" || pod.Annotations[AnnotationHold] == "true" {
		return 0, nil
	}
	return k.syncPod(ctx, pod)
}

func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// splitList takes a comma separated annotation apart.
func splitList(value string) []string {
	parts := strings.Split(value, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}
