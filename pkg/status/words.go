package status

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"flanneld/pkg/condition"
)

// Reached says how packets get to a peer.
func (p Peer) Reached() string {
	switch p.Mode {
	case Direct:
		return "direct, by " + p.Dev
	case Tunnel:
		return "tunnel, by " + p.Dev
	case External:
		return "external, not by flanneld"
	}
	return "no way"
}

// address is that of a host; "-" where it says none.
func address(a netip.Addr) string {
	if !a.IsValid() {
		return "-"
	}
	return a.String()
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// Expiry words the end of a lease.
func Expiry(t, now time.Time) string {
	switch {
	case t.IsZero():
		return "reserved, without expiry"
	case !t.After(now):
		return "lease ended " + Short(now.Sub(t)) + " ago"
	}
	return fmt.Sprintf("lease until %s (%s)", t.Format("2006-01-02 15:04:05"), Short(t.Sub(now)))
}

// EtcdState says in a few words how etcd is, and whether that is well.
func (s *Status) EtcdState() (text string, well bool) {
	switch e := s.Etcd; {
	case s.Conditions.Has(condition.EtcdUnreadable):
		return "cannot be read", false
	case s.Conditions.Has(condition.EtcdUnwritable):
		return "cannot be written", false
	case e.Current:
		return "current", true
	case e.Read.IsZero():
		return "not read yet", false
	default:
		return "not heard of for " + Short(max(0, s.Time.Sub(e.Read))), false
	}
}

// EtcdWords says which member of etcd answers, and how it is; well: nothing is wrong with that.
func (s *Status) EtcdWords() (text string, well bool) {
	member := s.Etcd.Member
	if member == "" {
		member = strings.Join(s.Etcd.Endpoints, ", ")
	}
	if s.Etcd.API != "" {
		member += ", API " + s.Etcd.API
	}
	state, well := s.EtcdState()
	return member + ", " + state, well
}

// age is how long something has been; "" where that is not known.
func (p *printer) age(since time.Time) string {
	if since.IsZero() {
		return ""
	}
	return Short(max(0, p.now.Sub(since)))
}

// Short is a duration in its two greatest units: "3d4h", "23h59m", "12s".
func Short(d time.Duration) string {
	d = d.Round(time.Second)
	day := 24 * time.Hour
	switch {
	case d >= day:
		return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}

func (p *printer) leaseOf(x Peer) string {
	if x.ExpiryUnknown {
		return "lease, until when is not known"
	}
	return Expiry(x.Expires, p.now)
}

// Words describes a device in a line.
func (d *Device) Words() string {
	var how string
	switch {
	case d.Kind == UDP:
		how = "udp by flanneld itself"
	case d.Kind == WireGuard && d.UserSpace:
		how = "wireguard in user space, by flanneld itself"
	case d.Kind == WireGuard:
		how = "wireguard, the kernel's"
	default:
		how = fmt.Sprintf("VNI %d", d.VNI)
	}
	text := fmt.Sprintf("%s, %s, UDP port %d, MTU %d", d.Name, how, d.Port, d.MTU)
	if d.PublicKey != "" {
		text += ", public key " + d.PublicKey
	}
	return text
}

// BackendOf is the backend that a peer's lease speaks of. Those of udp and alloc name none.
func (s *Status) BackendOf(p Peer) string {
	switch {
	case p.Backend != "":
		return p.Backend
	case p.Mode == Tunnel:
		return UDP
	}
	for _, h := range s.Halves() {
		if h.Network != nil && (h.Network.Backend == UDP || h.Network.Backend == Alloc) {
			return h.Network.Backend
		}
	}
	return ""
}

// size is a number of bytes in the unit that it fills.
func size(n uint64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, i := float64(n)/unit, 0
	for ; value >= unit && i < len(units)-1; i++ {
		value /= unit
	}
	return fmt.Sprintf("%.1f %ciB", value, units[i])
}

const units = "KMGTPE"
