package kernel

import (
	"errors"
	"io/fs"
)

// PeersChanged reports whether somebody else may have altered a WireGuard device of ours since
// the last call, or a tunnel of user space has ended by itself. Of neither the kernel says
// anything, so that a Watcher does not hear of it. It costs so little that it can be asked each
// second or two. It may be true for nothing, but then once: as the first time, after what a pass
// has repaired already, and of a device of the kernel's after a write of our own.
func (n *Netlink) PeersChanged() (bool, error) {
	changed := false
	for _, t := range n.tunnels {
		changed = changed || t.Err() != nil
	}
	var errs []error
	for dev := range n.guarded {
		c, err := n.wireguard.Changed(dev)
		if errors.Is(err, fs.ErrNotExist) { // it is gone
			c, err = true, nil
		}
		changed = changed || c
		errs = append(errs, err)
	}
	return changed, errors.Join(errs...)
}
