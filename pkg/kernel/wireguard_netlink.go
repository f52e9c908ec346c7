package kernel

import (
	"errors"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"flanneld/pkg/wgdevice"
)

// make prefers the kernel's WireGuard. One that runs in user space is taken up again there:
// the kernel's takes its place once it is deleted, as by the next boot.
func (g WireGuard) make(n *Netlink, d Device) error {
	_, there := n.index[d.Name]
	err := error(unix.EOPNOTSUPP)
	if !there {
		err = n.handle.LinkAdd(&netlink.Wireguard{LinkAttrs: d.attrs()})
	}
	if errors.Is(err, unix.EOPNOTSUPP) {
		if err = n.wireguard.StartUserspace(d.Name, d.MTU); err == nil {
			klog.InfoS("The kernel has no WireGuard: this process encrypts itself, more slowly", "device", d.Name)
		}
	}
	if err != nil {
		return err
	}
	n.guarded[d.Name] = true
	return g.change(n, d.Name)
}

func (g WireGuard) change(n *Netlink, dev string) error {
	return n.wireguard.Configure(dev, wgdevice.Settings{Private: g.Private, ListenPort: g.Port})
}

// read looks into devices of ours and of an earlier flannel's alone: others' keys are none of
// our business.
func (WireGuard) read(n *Netlink, l netlink.Link) DeviceKind {
	a := l.Attrs()
	if a.Alias != Alias && !strings.HasPrefix(a.Name, formerWireGuard) {
		return WireGuard{}
	}
	return n.wireGuard(a.Name)
}

// wireGuard is the kind of a device. Of one that cannot be read Entries says why.
func (n *Netlink) wireGuard(dev string) WireGuard {
	kind, err := n.readWireGuard(dev)
	if err != nil {
		return WireGuard{}
	}
	return kind
}

// readWireGuard reads a device, and keeps its peers for Entries. What others have changed stays
// a change for PeersChanged: who reads may only want to show it.
func (n *Netlink) readWireGuard(dev string) (WireGuard, error) {
	n.guarded[dev] = true
	settings, peers, err := n.wireguard.Read(dev)
	if err != nil {
		return WireGuard{}, err
	}
	found := make([]FoundPeer, len(peers))
	for i, p := range peers {
		found[i] = FoundPeer{
			Peer: Peer{dev, p.Peer}, More: p.Extra,
			Session: Session{Handshake: p.LastHandshake, Sent: p.Sent, Received: p.Received},
		}
	}
	n.wgRead[dev] = found
	return WireGuard{settings.Private, settings.ListenPort}, nil
}

func (WireGuard) advice(err error) string {
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return "another program holds this UDP port; find it with: ss -lunp"
	case errors.Is(err, unix.EEXIST):
		return "there is another interface of this name"
	}
	return ""
}
