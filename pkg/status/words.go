package status

import (
	"fmt"
	"net/netip"
	"time"
)

func reached(p Peer) string {
	switch p.Mode {
	case Direct:
		return "direct, by " + p.Dev
	case Tunnel:
		return "tunnel, by " + p.Dev
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

// expiry words the end of a lease.
func (p *printer) expiry(t time.Time) string {
	switch {
	case t.IsZero():
		return "reserved, without expiry"
	case !t.After(p.now):
		return "lease ended " + short(p.now.Sub(t)) + " ago"
	}
	return fmt.Sprintf("lease until %s (%s)", t.Format("2006-01-02 15:04:05"), short(t.Sub(p.now)))
}

// age is how long something has been; "" where that is not known.
func (p *printer) age(since time.Time) string {
	if since.IsZero() {
		return ""
	}
	return short(max(0, p.now.Sub(since)))
}

// short is a duration in its two greatest units: "3d4h", "23h59m", "12s".
func short(d time.Duration) string {
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
	return p.expiry(x.Expires)
}
