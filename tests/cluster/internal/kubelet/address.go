package kubelet

import (
	"fmt"
	"net/netip"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// byAddress is the informer index from an address to the Pods that have it.
const byAddress = "address"

// addressPool lends addresses to Pods: the lowest free one, so that an address
// is used again soon after its Pod is gone. That is harder on a proxy than the
// round robin of most CNI plugins, and it makes addresses predictable.
type addressPool struct {
	pods cache.Indexer
	mu   sync.Mutex
	// lent covers the time until the informer shows what was written.
	lent map[netip.Addr]types.UID
}

func newAddressPool(pods cache.SharedIndexInformer) (*addressPool, error) {
	err := pods.AddIndexers(cache.Indexers{byAddress: func(object any) ([]string, error) {
		pod, ok := object.(*corev1.Pod)
		if !ok || pod.Spec.HostNetwork {
			return nil, nil
		}
		var addresses []string
		for _, ip := range pod.Status.PodIPs {
			if address, err := netip.ParseAddr(ip.IP); err == nil {
				addresses = append(addresses, address.String())
			}
		}
		return addresses, nil
	}})
	if err != nil {
		return nil, err
	}
	return &addressPool{pods: pods.GetIndexer(), lent: map[netip.Addr]types.UID{}}, nil
}

// take lends the lowest free address of cidr to the Pod; asked again for the
// same Pod it answers the same address. The first two addresses are left out:
// the network's own, and the one that bridge plugins give to the node.
func (p *addressPool) take(cidr string, pod types.UID) (string, error) {
	prefix, err := netip.ParsePrefix(cidr)
	if err != nil {
		return "", err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for address, owner := range p.lent {
		if owner == pod && prefix.Contains(address) {
			return address.String(), nil
		}
	}
	for address := prefix.Masked().Addr().Next().Next(); prefix.Contains(address); address = address.Next() {
		if _, lent := p.lent[address]; lent {
			continue
		}
		owners, err := p.pods.IndexKeys(byAddress, address.String())
		if err != nil {
			return "", err
		}
		if len(owners) > 0 {
			continue
		}
		p.lent[address] = pod
		return address.String(), nil
	}
	return "", fmt.Errorf("no free address in %s", cidr)
}

// release takes back all that the Pod was lent.
func (p *addressPool) release(pod types.UID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for address, owner := range p.lent {
		if owner == pod {
			delete(p.lent, address)
		}
	}
}
