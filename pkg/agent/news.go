package agent

import (
	"net/netip"
	"time"

	"flanneld/pkg/subnet"
)

// leaseNews are since when peers' leases say what they say, while this host changes. A host that is about
// to write its lease may not have heard for as long as that takes, and not know this host yet.
type leaseNews map[netip.Prefix]leaseTold

type leaseTold struct {
	kind, data string
	since      time.Time // zero: it was so when this host began to change, or the peer is new
}

// noteNews keeps a.news, and returns how long the last of them stay news.
func (a *Agent) noteNews(peers families, now time.Time) time.Duration {
	if a.next == a.current && len(a.left) == 0 {
		a.news = nil
		return resync
	}
	if a.news == nil {
		a.news = leaseNews{}
	}
	due := resync
	for _, of := range peers {
		for i := range of {
			p := &of[i]
			last, known := a.news[p.Subnet]
			if !known || last.kind != p.BackendType || last.data != p.BackendData {
				last = leaseTold{kind: p.BackendType, data: p.BackendData}
				if known {
					last.since = now
				}
				a.news[p.Subnet] = last
			}
			if left := propagation - now.Sub(last.since); left > 0 {
				due = min(due, left)
			}
		}
	}
	return due
}

// fresh tells whether a peer may not have heard yet of what this host says.
func (n leaseNews) fresh(p *subnet.Lease, now time.Time) bool {
	return now.Sub(n[p.Subnet].since) < propagation
}
