// Package hostgw is the host-gw backend: each host is the gateway of its
// subnet. Packets travel as they are, so all hosts must share one link.
package hostgw

import (
	"fmt"

	"flanneld/pkg/backend"
	"flanneld/pkg/kernel"
	"flanneld/pkg/subnet"
)

// Type is the backend's name in the config key and in leases.
const Type = "host-gw"

type hostGW struct{ host backend.Host }

// New is a backend.Factory. host-gw has no options.
func New(_ subnet.Config, h backend.Host) (backend.Backend, error) {
	if !h.Link.Has(h.PublicIP) {
		where := "none of " + h.Link.Name
		for _, l := range h.Links {
			if l.Has(h.PublicIP) {
				where += ", but of " + l.Name
			}
		}
		return nil, fmt.Errorf("host-gw needs a public IP that is an address of the external interface, and %v is %s: "+
			"choose another with --public-ip or --iface, or use the vxlan backend", h.PublicIP, where)
	}
	return hostGW{h}, nil
}

func (b hostGW) Attrs() subnet.Attrs {
	return subnet.Attrs{PublicIP: b.host.PublicIP, BackendType: Type}
}

func (hostGW) Endpoint() string { return "" }

func (hostGW) Meets(_, _ *subnet.Lease) bool { return false }

func (b hostGW) MTU() int { return b.host.Link.MTU }

// Desired routes to every peer on the link, whatever its lease says: a peer
// that has gone over to vxlan already still takes plain packets.
func (b hostGW) Desired(
	_ subnet.Lease, peers []subnet.Lease, around backend.Around,
) (kernel.State, []backend.Path) {
	routes, paths := make([]kernel.Route, 0, len(peers)), make([]backend.Path, len(peers))
	for i := range peers {
		p := &peers[i]
		switch around.OnLink(p.PublicIP) {
		case backend.Yes:
			paths[i] = backend.Path{Mode: backend.Direct, Route: int32(len(routes))}
			routes = append(routes, backend.PlainRoute(p, b.host.Link.Name))
		case backend.No:
			paths[i].Reason = backend.NotOnLink
		default:
			paths[i].Reason = backend.OnLinkUnknown
		}
	}
	return kernel.State{Routes: routes}, paths
}
