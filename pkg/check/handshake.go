package check

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"flanneld/pkg/condition"
	"flanneld/pkg/inet"
	"flanneld/pkg/printable"
	"flanneld/pkg/status"
)

// Vain says what came of packets to a peer that has no session, or an old one.
type Vain struct {
	For   time.Duration // without a handshake since the first of them
	Heard bool          // something came from the peer meanwhile
}

// handshakeTime is how long a handshake may take: three tries, one each five seconds
// (the WireGuard paper, 6.4: REKEY-TIMEOUT).
const handshakeTime = 16 * time.Second

// sessionTime is after which nothing is sent by a session (the paper, 6.1: REJECT-AFTER-TIME).
const sessionTime = 3 * time.Minute

// setBack is how far the last handshake with a peer lies in the future: this host's clock has been
// set back by so much since, at least.
func setBack(p status.Peer, now time.Time) time.Duration {
	const jitter = time.Second // of what is not read at one moment
	if p.Session == nil || p.Session.Handshake.IsZero() {
		return 0
	}
	if d := p.Session.Handshake.Sub(now); d > jitter {
		return d
	}
	return 0
}

// findSetBack looks whether this host's clock was set back, as the sessions tell: a handshake's
// time must be later than that of the one before, or the peer takes it for a repetition (the paper, 5.1).
func (f Facts) findSetBack() []Finding {
	var most time.Duration
	var with []string
	vain := false
	for _, p := range f.Status.Peers {
		if d := setBack(p, f.Status.Time); d > 0 {
			most, with = max(most, d), append(with, p.PublicIP.String())
			_, silent := f.Silent[p.Subnet]
			vain = vain || silent
		}
	}
	if len(with) == 0 {
		return nil
	}
	slices.Sort(with)
	x := fault([]string{rotateFix + "   # here: peers know no earlier handshake of the new key",
		"timedatectl set-ntp true   # or: chronyc makestep, if the clock is wrong now, and was right"},
		"this host's clock was set back: the last handshake with %s lies %v ahead; until the clock is there again peers "+
			"refuse handshakes that this host begins, unless it has another key",
		printable.Some(slices.Compact(with), 3, ", ", " and"), most.Round(time.Second))
	if !vain {
		x.Level = Note // they begin themselves, as long as they send
	}
	return []Finding{x}
}

// findHandshake is about a peer that is sent packets and shakes no hands.
func findHandshake(f Facts, p status.Peer) []Finding {
	vain, silent := f.Silent[p.Subnet]
	if !silent || p.Session == nil {
		return nil
	}
	if faulty(findPath(f, p)) { // so what was sent has not come to the tunnel
		return skipped("not before the route is right")
	}
	last := "there was none yet"
	if h := p.Session.Handshake; !h.IsZero() && !h.After(f.Status.Time) {
		last = "the last one was " + f.Status.Time.Sub(h).Round(time.Second).String() + " ago"
	}
	text := fmt.Sprintf("no handshake with %v at %v though packets were sent for %v, %s",
		p.PublicIP, p.Endpoint, vain.For.Round(time.Second), last)
	there := f.checkThere(p)
	if vain.Heard {
		return []Finding{fault([]string{
			f.allowTunnel(p),
			there + ": if it says the same of this host, and nothing else, one of the two has another PSK",
			"flanneld status   # on both: do they go by the same config key? the PSK in it is one for all hosts",
		}, "%s: what comes from it arrives, and it knows this host's key; UDP port %d seems to be blocked there or on the "+
			"way, or it has another PSK", text, p.Endpoint.Port())}
	}
	fix := []string{f.allowTunnel(p), there + ": does it know this host by the public key " + f.publicKey() + "?"}
	if f.faulty("clock") {
		text += "; this host's clock is wrong"
	}
	fix = append(fix, rotateFix+"   # here, if this host's clock was set back: peers take no handshake that is older than "+
		"the last")
	return []Finding{fault(fix, "%s: UDP port %d seems to be blocked there or on the way, or the peer has an old key of "+
		"this host's, or another PSK, or this host's clock was set back", text, p.Endpoint.Port())}
}

// allowTunnel lets the tunnel's packets in on a peer.
func (f Facts) allowTunnel(p status.Peer) string {
	program := f.words().iptables
	src := f.neighbourhood(f.Status.Host.Address)
	if other := inet.Of(p.Endpoint.Addr()); p.Endpoint.IsValid() && other != f.family && f.family != 0 {
		return fmt.Sprintf("%s -I INPUT -p udp --dport %d -j ACCEPT   # on the peer, or the like on what is between",
			dialects[other].iptables, f.portOf(p))
	}
	return fmt.Sprintf("%s -I INPUT -p udp --dport %d -s %v -j ACCEPT   # on the peer, or the like on what is between",
		program, f.portOf(p), src)
}

// portOf is the UDP port of a peer's end of the tunnel. A lease may name it; otherwise all have one.
func (f Facts) portOf(p status.Peer) int {
	if p.Endpoint.IsValid() {
		return int(p.Endpoint.Port())
	}
	return f.Status.Device.Port
}

// unreachable is why the daemon has no way to a peer, in its words.
func (f Facts) unreachable(subnet netip.Prefix) (condition.Condition, bool) {
	for _, c := range f.Status.Conditions {
		if (c.Code == condition.PeerUnreachable || c.Code == condition.KeyDuplicated) && c.Subject == subnet.String() {
			return c, true
		}
	}
	return condition.Condition{}, false
}
