package agent

import (
	"net/netip"
	"slices"
	"time"

	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
	"flanneld/pkg/subnet"
)

// resumed is a start with another backend than our lease spoke of. Peers send by what it said until they
// hear: what an earlier run has left for that stays meanwhile.
type resumed struct {
	otherwise bool      // the lease spoke of another
	until     time.Time // what is found stays
}

// noteFormer notes what our lease says before this run has said anything.
func (a *Agent) noteFormer(view subnet.View) {
	if a.current != nil || a.claimedFor != nil {
		return
	}
	former, will := formerLease(view, a.self, subnet.Proof), a.next.attrs()
	a.resumed.otherwise = former.Subnet.IsValid() &&
		(former.BackendType != will.BackendType || !former.Says(will) && former.BackendData != will.BackendData)
}

// begin is called once this run's first setup is at work.
func (r *resumed) begin(now time.Time) {
	if r.otherwise {
		r.until = now.Add(drainingTime)
	}
}

// left is how long what is found has to stay still.
func (r *resumed) left(now time.Time) time.Duration { return max(0, r.until.Sub(now)) }

// expectFound has packets come from peers by devices of ours that an earlier run has left.
func (d *desired) expectFound(links []kernel.Link) {
	for _, l := range links {
		for _, f := range inet.Families() {
			ours := l.Kind != nil && l.Alias == kernel.Alias && slices.ContainsFunc(l.Addrs, func(a kernel.Addr) bool {
				in := func(own netip.Prefix) bool { return own.Contains(a.Addr()) }
				return inet.Of(a.Addr()) == f && slices.ContainsFunc(d.Own, in)
			})
			if ours && !slices.Contains(d.expect[f.Index()], l.Name) {
				d.expect[f.Index()] = append(d.expect[f.Index()], l.Name)
			}
		}
	}
}
