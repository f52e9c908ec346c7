// Package alloc is the alloc backend: hosts have subnets, and their packets are the
// operator's own affair. It is for networks with routing of their own.
package alloc

import (
	"flanneld/pkg/backend"
	"flanneld/pkg/kernel"
	"flanneld/pkg/subnet"
)

// Type is the backend's name in the config key. Flannel's leases name none.
const Type = "alloc"

type alloc struct{ host backend.Host }

// New is a backend.Factory. alloc has no options.
func New(_ subnet.Config, h backend.Host) (backend.Backend, error) { return alloc{h}, nil }

func (b alloc) Attrs() subnet.Attrs { return subnet.Attrs{PublicIP: b.host.PublicIP} }

func (alloc) Endpoint() string { return "" }

func (alloc) Meets(_, _ *subnet.Lease) bool { return false }

func (b alloc) MTU() int { return b.host.Link.MTU }

// Desired is nothing.
func (alloc) Desired(_ subnet.Lease, peers []subnet.Lease, _ backend.Around) (kernel.State, []backend.Path) {
	paths := make([]backend.Path, len(peers))
	for i := range paths {
		paths[i].Mode = backend.External
	}
	return kernel.State{}, paths
}
