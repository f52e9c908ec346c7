package wgdevice

import (
	"bytes"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
	"k8s.io/klog/v2"
)

// Two hosts that greet each other at the same moment fail: each drops its own
// handshake for the other's, and then knows neither answer. So does a handshake that is
// lost on the way. WireGuard tries again after 5 s, and refuses to earlier, but for a peer that is
// made anew. So a peer that has not shaken hands by then is, a few times: first by the host
// of the greater key, then by the other. Their pauses grow, so that they do not meet each time.
const (
	mostRetries = 3
	firstRetry  = 300 * time.Millisecond // more than a packet and its answer take
	secondRetry = 2 * firstRetry
	retryPause  = firstRetry / 6 // between two looks at a device
	retryAtOnce = 256            // peers, each of which takes a quarter of a millisecond
)

// greeted are the new peers of a device that may not have answered yet.
type greeted map[Key]greeting

type greeting struct {
	Peer
	at      time.Time
	retries int
}

// greets notes what SetPeers has done.
func (c *Control) greets(name string, set []Peer, isNew func(Key) bool, remove []Key) {
	waiting := c.greeted[name]
	if waiting == nil {
		waiting = greeted{}
		c.greeted[name] = waiting
	}
	for _, key := range remove {
		delete(waiting, key)
	}
	now := time.Now()
	for _, p := range set {
		was, waits := waiting[p.Key]
		switch {
		case !p.Endpoint.IsValid():
			delete(waiting, p.Key)
		case isNew(p.Key):
			waiting[p.Key] = greeting{Peer: p, at: now}
		case waits:
			waiting[p.Key] = greeting{p, was.at, was.retries}
		}
	}
	c.retryIn(firstRetry)
}

// retryIn looks after those who wait, once there are any. c.mu is held.
func (c *Control) retryIn(d time.Duration) {
	waiting := 0
	for _, g := range c.greeted {
		waiting += len(g)
	}
	if waiting > 0 && c.timer == nil && !c.closed {
		c.timer = time.AfterFunc(d, c.retry)
	}
}

func (c *Control) retry() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer = nil
	if c.closed {
		return
	}
	for name, waiting := range c.greeted {
		if err := c.retryOn(name, waiting); err != nil {
			klog.V(2).InfoS("Cannot shake hands with WireGuard's peers again", "device", name, "err", err)
			delete(c.greeted, name)
		}
	}
	c.retryIn(retryPause)
}

// retryOn makes those anew whose time has come.
func (c *Control) retryOn(name string, waiting greeted) error {
	if !waiting.due() {
		return nil
	}
	d, err := c.device(name)
	if err != nil {
		return err
	}
	s, found, err := d.read()
	if err != nil {
		return err
	}
	return renew(d, waiting.again(s.Private.Public(), found, time.Now()))
}

// again takes those out who need to be greeted again, and those who do not.
func (g greeted) again(own Key, found []FoundPeer, now time.Time) (again []Peer) {
	silent := make(map[Key]Peer, len(found))
	for _, p := range found {
		if p.unsure() {
			silent[p.Key] = p.Peer
		}
	}
	for key, one := range g {
		is, isSilent := silent[key]
		is.Keepalive = one.Keepalive // which has no say
		after := firstRetry
		if bytes.Compare(own[:], key[:]) < 0 {
			after = secondRetry
		}
		after *= time.Duration(one.retries + 1)
		switch {
		case !isSilent || is != one.Peer: // by now others have a say
			delete(g, key)
		case now.Sub(one.at) < after || len(again) == retryAtOnce:
		default:
			again = append(again, one.Peer)
			g[key] = greeting{one.Peer, now, one.retries + 1}
			if one.retries+1 == mostRetries {
				delete(g, key)
			}
		}
	}
	return again
}

// crossed are the bytes of a handshake's two messages, the other's and the answer to ours
// (wireguard.com/protocol). wireguard-go can mix the two up where they come at once, and then
// hears nothing in the session that it believes to have.
const crossed = 148 + 92

// unsure reports whether there may be no session with a peer that is new.
func (p *FoundPeer) unsure() bool {
	return !p.Extra && (p.LastHandshake.IsZero() || p.Received == crossed)
}

// due reports whether any has waited long enough.
func (g greeted) due() bool {
	for _, one := range g {
		if time.Since(one.at) >= firstRetry {
			return true
		}
	}
	return false
}

// renew removes peers and adds them as new ones. These are requests of their own: of a key that a large
// one names twice, wgctrl takes the second for more prefixes of the first, and sends the kernel neither
// its endpoint nor its PSK.
func renew(d engine, peers []Peer) error {
	if len(peers) == 0 {
		return nil
	}
	var none *memory
	add, then := none.changes(peers, nil)
	var remove wgtypes.Config
	for _, p := range peers {
		remove.Peers = append(remove.Peers, wgtypes.PeerConfig{PublicKey: wgtypes.Key(p.Key), Remove: true})
	}
	if err := d.configure(remove); err != nil {
		return err
	}
	return apply(d, add, then)
}
