package kernel

import "flanneld/pkg/wgdevice"

// pendingPeers are writes of peers that follow each other: a device takes them all at once.
type pendingPeers struct {
	dev    string
	set    []Peer
	remove []Peer
}

func (w *writer) WritePeer(a Action, p Peer) error {
	w.flush()
	if w.peers.dev != p.Dev {
		w.flushPeers()
		w.peers.dev = p.Dev
	}
	if _, ok := w.index[p.Dev]; !ok {
		return noInterface(p.Dev)
	}
	if a == Delete {
		w.peers.remove = append(w.peers.remove, p)
	} else {
		w.peers.set = append(w.peers.set, p)
	}
	return nil
}

// flushPeers writes those that wait. What becomes of them is what becomes of each: they are
// the last of the ops so far.
func (w *writer) flushPeers() {
	p := w.peers
	n := len(p.set) + len(p.remove)
	if w.peers = (pendingPeers{}); n == 0 {
		return
	}
	err := w.writePeers(p)
	for i := range n {
		w.errs[len(w.errs)-n+i] = err
	}
}

func (n *Netlink) writePeers(p pendingPeers) error {
	if t := n.tunnels[p.dev]; t != nil {
		return t.change(p.set, p.remove)
	}
	set := make([]wgdevice.Peer, len(p.set))
	for i, x := range p.set {
		set[i] = x.Peer
	}
	var remove []wgdevice.Key
	for _, x := range p.remove {
		remove = append(remove, x.Key)
	}
	return n.wireguard.SetPeers(p.dev, set, remove)
}

// peers lists those of a device.
func (n *Netlink) peers(dev Link) ([]FoundPeer, error) {
	switch dev.Kind.(type) {
	case UDP:
		if t := n.tunnels[dev.Name]; t != nil {
			return t.peers(), nil
		}
	case WireGuard:
		found, read := n.wgRead[dev.Name]
		if !read {
			_, err := n.readWireGuard(dev.Name)
			found = n.wgRead[dev.Name]
			if err != nil {
				return nil, err
			}
		}
		delete(n.wgRead, dev.Name)
		return found, nil
	}
	return nil, nil
}
