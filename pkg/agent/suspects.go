package agent

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"flanneld/pkg/condition"
	"flanneld/pkg/kernel"
)

// suspects are routes that came just before etcd was lost. What leads to etcd may
// hang on addresses that this host does not know to be in use: of the far end of a
// VPN, or of what a proxy on this host asks. So these routes are taken back. If
// etcd does not come back without them, they were not it. If it does, they are
// tried again: half of them, of these half if that costs etcd once more, and so on
// down to the one, which is tried ever more rarely.
type suspects struct {
	fresh  map[netip.Prefix]time.Time // routes that came, and when; not proven yet
	failed map[netip.Prefix]int       // how often one has cost etcd alone
	held   []suspect                  // taken back, the next to be tried first
	tried  map[netip.Prefix]bool      // let come back, and not proven yet
	some   int                        // how many are let come back at once
	since  time.Time                  // of the last that were taken back
	again  time.Time                  // none is tried before
	better bool                       // etcd came back after that
}

type suspect struct {
	dst   netip.Prefix
	since time.Time
	until time.Time // not tried before
}

const (
	// suspectTime is how long etcd must have been there with a route: a loss is
	// noticed after a quarter of a minute at the latest.
	suspectTime = 30 * time.Second
	// heldTime is ample for etcd to come back once a route is gone.
	heldTime    = 30 * time.Second
	heldLongest = 10 * time.Minute
)

// holds tells a destination to which no route may lead for now.
func (s *suspects) holds(dst netip.Prefix) bool {
	return slices.ContainsFunc(s.held, func(x suspect) bool { return x.dst == dst })
}

// note takes up the routes that a pass has added.
func (s *suspects) note(ops []kernel.Op, now time.Time) {
	for _, o := range ops {
		r, isRoute := o.Object.(kernel.Route)
		passing := r.Dst.IsSingleIP() // it leads to another one's gateway, for this pass alone
		if isRoute && o.Action != kernel.Delete && !o.Repair && !passing {
			if s.fresh == nil {
				s.fresh, s.failed = map[netip.Prefix]time.Time{}, map[netip.Prefix]int{}
			}
			s.fresh[r.Dst] = now
		}
	}
}

// judge looks at etcd: lost says since when it cannot be read, zero: it can; heard,
// when its host last answered a new connection at all, be it by refusing it. A route
// that was there by then has not led it away.
func (s *suspects) judge(lost, heard, now time.Time) {
	var guilty []netip.Prefix
	for dst, came := range s.fresh {
		switch {
		case !lost.IsZero() && heard.After(came):
			delete(s.fresh, dst)
			delete(s.tried, dst)
		case !lost.IsZero() && !lost.Before(came) && lost.Sub(came) <= suspectTime:
			guilty = append(guilty, dst)
			delete(s.fresh, dst)
			delete(s.tried, dst)
		case now.Sub(came) > suspectTime:
			delete(s.fresh, dst)
			delete(s.tried, dst)
			delete(s.failed, dst)
		}
	}
	switch {
	case len(guilty) > 0:
		s.hold(guilty, now)
	case !lost.IsZero() && !s.better && now.Sub(s.since) >= heldTime: // it is not for want of them
		s.held = slices.DeleteFunc(s.held, func(x suspect) bool { return x.since.Equal(s.since) })
	case lost.IsZero():
		s.better = true
		s.try(now)
	}
}

// hold takes routes back.
func (s *suspects) hold(guilty []netip.Prefix, now time.Time) {
	slices.SortFunc(guilty, netip.Prefix.Compare)
	wait := heldTime
	if len(guilty) == 1 {
		wait = min(heldTime<<min(s.failed[guilty[0]], 10), heldLongest)
		s.failed[guilty[0]]++
	}
	var again []suspect
	for _, dst := range guilty {
		again = append(again, suspect{dst, now, now.Add(wait)})
	}
	s.held = append(again, s.held...)
	s.since, s.again, s.some, s.better = now, now.Add(heldTime), max(1, len(guilty)/2), false
}

// try lets the next come back, more each time that it went well.
func (s *suspects) try(now time.Time) {
	if len(s.held) == 0 || now.Before(s.again) {
		return
	}
	for dst := range s.tried {
		if _, unproven := s.fresh[dst]; unproven {
			return // if etcd is lost, it must show by which
		}
	}
	s.tried = map[netip.Prefix]bool{}
	before := len(s.held)
	s.release(s.some, false, now)
	if len(s.held) == before { // those that have cost etcd alone come last, and alone
		s.release(1, true, now)
	}
	if len(s.held) < before {
		s.some = min(2*s.some, 1<<16)
	}
}

// release lets the first few come back of those that are due: of those that have
// cost etcd alone, or of the others.
func (s *suspects) release(few int, alone bool, now time.Time) {
	s.held = slices.DeleteFunc(s.held, func(x suspect) bool {
		due := few > 0 && !now.Before(x.until) && s.failed[x.dst] > 0 == alone
		if due {
			few--
			s.tried[x.dst] = true
		}
		return due
	})
}

// next is how long until judge is to be called again.
func (s *suspects) next() time.Duration {
	if len(s.fresh)+len(s.held) > 0 {
		return time.Second
	}
	return resync
}

// look notes whether etcd is there. Where the cluster's network and what
// this host needs are apart, no route of ours can have cost etcd.
func (a *Agent) look(now time.Time) {
	if !a.overlaps() {
		a.suspects = suspects{}
	}
	unreadable, _ := a.Conditions.Find(condition.EtcdUnreadable, "")
	var heard time.Time
	if a.Needs != nil {
		heard = a.Needs.Heard()
	}
	a.suspects.judge(unreadable.Since, heard, now)
	var all []condition.Condition
	for _, x := range a.suspects.held {
		all = append(all, condition.Condition{
			Subject: x.dst.String(),
			Message: fmt.Sprintf("took back the route to %v, as etcd was lost right after it came: does that subnet hold what "+
				"leads to etcd? If so, leave it out by another Network, or by SubnetMin and SubnetMax", x.dst),
		})
	}
	a.Conditions.Replace(condition.RouteSuspected, all)
}
