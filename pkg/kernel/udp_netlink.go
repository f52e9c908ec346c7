package kernel

import (
	"errors"
	"maps"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"flanneld/pkg/inet"
	"flanneld/pkg/udptunnel"
)

// tunnel is a TUN device that this process serves.
type tunnel struct {
	*udptunnel.Tunnel
	kind   UDP
	source netip.Addr // of what it says itself
	table  map[peerKey]Peer
}

func (u UDP) make(n *Netlink, d Device) error {
	t := &tunnel{kind: u, source: d.Addrs.Of(inet.IPv4).Addr(), table: map[peerKey]Peer{}}
	if err := n.serve(d.Name, t); err != nil {
		return err
	}
	link, err := n.handle.LinkByName(d.Name)
	if err != nil {
		return err
	}
	return n.handle.LinkSetMTU(link, d.MTU)
}

// change moves a tunnel to another address or port. The table comes along.
func (u UDP) change(n *Netlink, dev string) error {
	t := n.tunnels[dev]
	if t == nil {
		return noInterface(dev)
	}
	n.unserve(dev)
	if err := n.serve(dev, &tunnel{kind: u, source: t.source, table: t.table}); err != nil {
		return err
	}
	return n.tunnels[dev].change(nil, nil)
}

// serve begins to carry a device's packets.
func (n *Netlink) serve(dev string, t *tunnel) (err error) {
	if t.Tunnel, err = udptunnel.Open(udptunnel.Options{Name: dev, Local: t.kind.Local, Store: n.Store}); err != nil {
		return err
	}
	t.SetSource(t.source)
	n.tunnels[dev], n.served[dev] = t, n.index[dev]
	return nil
}

// unserve carries a device's packets no more.
func (n *Netlink) unserve(dev string) {
	if t := n.tunnels[dev]; t != nil {
		_ = t.Close()
		delete(n.tunnels, dev)
	}
	n.wireguard.Stop(dev)
	delete(n.served, dev)
}

// letGo ends what serves devices that are gone, also where there are others of their names.
func (n *Netlink) letGo() {
	for dev, index := range n.served {
		if n.index[dev] != index {
			n.discard(dev)
		}
	}
}

// discard is unserve for good: nothing is kept of the device for the next process either.
func (n *Netlink) discard(dev string) {
	n.unserve(dev)
	if n.Store == nil {
		return
	}
	if err := udptunnel.Forget(n.Store, dev); err != nil {
		klog.ErrorS(err, "Could not forget what was kept of a device for the next start", "device", dev)
	}
}

// inUserspace tells a TUN device of ours from others' by its alias, where this process does
// not serve it.
func (n *Netlink) inUserspace(l Link) (kind DeviceKind, unserved bool) {
	t := n.tunnels[l.Name]
	if t != nil && t.Err() != nil {
		klog.ErrorS(t.Err(), "A tunnel has ended by itself: opening it again")
		n.unserve(l.Name)
		t = nil
	}
	switch {
	case t != nil:
		return t.kind, false
	case n.wireguard.Userspace(l.Name):
		return n.wireGuard(l.Name), false
	case l.Alias == Alias:
		return UDP{}, true
	}
	return nil, false
}

// change writes to the table. What the tunnel does not take is not in it.
func (t *tunnel) change(set, remove []Peer) error {
	next := maps.Clone(t.table)
	for _, p := range remove {
		delete(next, p.key())
	}
	for _, p := range set {
		next[p.key()] = p
	}
	routes := make([]udptunnel.Route, 0, len(next))
	for _, p := range next {
		for _, s := range p.Subnets() {
			routes = append(routes, udptunnel.Route{Dst: s, To: p.Endpoint})
		}
	}
	if err := t.Set(routes); err != nil {
		return err
	}
	t.table = next
	return nil
}

func (t *tunnel) peers() []FoundPeer {
	all := make([]FoundPeer, 0, len(t.table))
	for _, p := range t.table {
		all = append(all, FoundPeer{Peer: p})
	}
	return all
}

// read is never asked: no link has such a kind by netlink.
func (UDP) read(*Netlink, netlink.Link) DeviceKind { return nil }

func (UDP) advice(err error) string {
	if errors.Is(err, unix.EADDRINUSE) {
		return "another program holds this UDP port; find it with: ss -lunp"
	}
	return ""
}
