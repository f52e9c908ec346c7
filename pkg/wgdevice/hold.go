package wgdevice

import (
	"time"

	"k8s.io/klog/v2"
)

// With another private key a device has no session to send by until its peers have heard of the public
// one. WireGuard keeps 128 packets for each peer meanwhile, and forgets them with the peer: all of them
// where hosts change their keys at the same moment. So a device in this process takes no packet from its
// interface until the peers that it had sessions with have new ones.
const (
	longestHold = time.Second           // for peers that are gone
	holdPause   = 10 * time.Millisecond // between two looks
	drains      = 50 * time.Millisecond // what was read before leaves by then, on a busy machine too
	sessionAge  = 3 * time.Minute       // after which a session ends (the WireGuard paper, 6.2)
	queueLength = 1000                  // packets that an interface keeps, as Ethernet's do
)

// holding is a device that waits for its peers.
type holding struct {
	since time.Time
	dead  map[Key]bool // peers that had no session
}

// hold holds a device whose private key is about to change, where any of its peers has a session.
// c.mu is held.
func (c *Control) hold(u *userspace, peers []FoundPeer) {
	h, live := &holding{time.Now(), map[Key]bool{}}, 0
	for _, p := range peers {
		if time.Since(p.LastHandshake) > sessionAge {
			h.dead[p.Key] = true
		} else {
			live++
		}
	}
	if live > 0 {
		u.tun.hold()
		time.Sleep(drains)
		h.since = time.Now()
		u.holding = h
		c.lookLater(u, h)
	}
}

func (c *Control) lookLater(u *userspace, h *holding) {
	time.AfterFunc(holdPause, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		switch {
		case u.holding != h || u.ended(): // by now another one waits, or nobody
		case u.waits(h):
			c.lookLater(u, h)
		default:
			u.holding = nil
			u.tun.release()
		}
	})
}

// waits tells whether any live peer has not shaken hands since.
func (u *userspace) waits(h *holding) bool {
	if time.Since(h.since) >= longestHold {
		return false
	}
	_, peers, err := u.read()
	if err != nil {
		klog.V(2).InfoS("Cannot see whether WireGuard's peers have shaken hands", "device", u.name, "err", err)
		return false
	}
	for _, p := range peers {
		if !h.dead[p.Key] && !p.LastHandshake.After(h.since) {
			return true
		}
	}
	return false
}
