package check

import (
	"context"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"flanneld/pkg/probe"
	"flanneld/pkg/status"
	"flanneld/pkg/wgdevice"
)

// readKey looks at the file of this host's private key, as the daemon would.
func (f *Facts) readKey() {
	file := f.Status.Daemon.KeyFile
	if file == "" {
		return
	}
	k := KeyFile{File: file}
	if info, err := os.Stat(f.asDaemon(file)); err == nil {
		k.Mode = info.Mode()
	}
	content, err := f.readFile(file)
	if k.Err = err; err == nil {
		var private wgdevice.Secret
		private, k.Err = wgdevice.ParseSecret(strings.TrimSpace(string(content)))
		k.Public = private.Public().String()
		if private.IsZero() {
			k.Public = ""
		}
	}
	clear(content)
	f.Key = &k
}

// Sessions tries WireGuard's sessions: each peer is sent a packet, and what comes of it the
// daemon tells. So an idle peer, whose last handshake is long ago, has no fault.
type Sessions struct {
	Ask  func(context.Context) (status.Status, error)
	Send func(netip.Addr) // a probe.Small packet by the tunnel
}

// NewSessions asks a daemon.
func NewSessions(daemon status.Socket) Sessions { return Sessions{daemon.Ask, sendByTunnel} }

// askEvery is how often the daemon is asked what came of it.
const askEvery = 250 * time.Millisecond

// Run returns the peers as they are then, and notes in f.Silent what was in vain.
func (s Sessions) Run(ctx context.Context, f *Facts, peers []status.Peer) []status.Peer {
	peers = slices.Clone(peers)
	begin := map[netip.Prefix]status.Session{} // of those that are waited for
	for _, p := range peers {
		if x := p.Session; x != nil {
			begin[p.Subnet] = *x
			s.Send(p.Subnet.Addr())
		}
	}
	f.Silent = map[netip.Prefix]Vain{}
	if len(begin) == 0 {
		return peers
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	again := time.NewTimer(askEvery)
	defer again.Stop()
	start := time.Now()
	for waiting := len(begin); waiting > 0; {
		select {
		case <-ctx.Done():
			inVain(f, peers, begin, time.Since(start))
			return peers
		case <-again.C:
		}
		asked := time.Now()
		now, err := s.Ask(ctx)
		again.Reset(max(askEvery, 4*time.Since(asked))) // it has other things to do than to answer
		if err != nil {
			continue
		}
		waiting = take(peers, now, begin)
		f.Status.Time, f.Status.Peers = now.Time, replaced(f.Status.Peers, peers)
	}
	return peers
}

// take takes over the sessions as they are now, and counts those that wait still.
func take(peers []status.Peer, now status.Status, begin map[netip.Prefix]status.Session) (waiting int) {
	sessions := map[netip.Prefix]*status.Session{}
	for _, p := range now.Peers {
		sessions[p.Subnet] = p.Session
	}
	for i := range peers {
		p := &peers[i]
		before, waits := begin[p.Subnet]
		x, there := sessions[p.Subnet]
		if !waits || !there || x == nil {
			continue
		}
		p.Session = x
		if !lives(before, *x, now.Time) {
			waiting++
		}
	}
	return waiting
}

// initiation is the length of the message that begins a handshake, in bytes (the WireGuard paper, 5.4.2).
const initiation = 148

// lives: a handshake is a sign of life. Within a session of which the end has not come, so is whatever
// comes back but a peer's own tries to begin one: an answer, or a keepalive within ten seconds (the paper, 6.5).
// After a step of the clock, when its handshake lies in the future, its age is not known.
func lives(before, now status.Session, at time.Time) bool {
	if !now.Handshake.Equal(before.Handshake) {
		return true
	}
	grown := now.Received - before.Received
	return !before.Handshake.IsZero() && at.Sub(before.Handshake) <= sessionTime && grown > 0 && grown%initiation != 0
}

// inVain notes those that still wait.
func inVain(f *Facts, peers []status.Peer, begin map[netip.Prefix]status.Session, after time.Duration) {
	for _, p := range peers {
		before, waits := begin[p.Subnet]
		if waits && !lives(before, *p.Session, f.Status.Time) {
			f.Silent[p.Subnet] = Vain{For: after, Heard: p.Session.Received > before.Received ||
				p.Session.Received > 0 && p.Session.Handshake.IsZero()}
		}
	}
}

// replaced are all with these in their places.
func replaced(all, by []status.Peer) []status.Peer {
	all = slices.Clone(all)
	at := map[netip.Prefix]status.Peer{}
	for _, p := range by {
		at[p.Subnet] = p
	}
	for i, p := range all {
		if now, there := at[p.Subnet]; there {
			all[i] = now
		}
	}
	return all
}

// sendByTunnel sends a datagram to where nobody listens. Nobody need answer: that it is sent
// makes a device shake hands.
func sendByTunnel(to netip.Addr) {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, probe.Discard)))
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = conn.Write(make([]byte, 1))
}
