package agent

import (
	"slices"
	"time"

	"k8s.io/klog/v2"

	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
	"flanneld/pkg/subnet"
)

// leftSetup is one that this host worked with, or was about to, and that peers may still know. Our
// lease names its end until no peer has been reached by it for drainingTime. Then it is named no more,
// and what it has stays for as long again, for peers that have not heard. Nothing of this outlives the
// daemon: one that starts in the midst of a change reaches peers on the link plainly, says of the others
// that there is no way to them, and has all back once they have changed, too.
type leftSetup struct {
	*setup
	worked  bool            // it was the current one: peers let in what comes by it
	devices []kernel.Device // with the addresses that they had last
	used    bool            // a peer is reached by it
	unused  time.Time       // since when none is, or since it was left
	unsaid  time.Time       // since when our lease does not name it; zero: it does, or is to
}

const (
	// drainingTime is ample for a peer's watch to tell it of a lease.
	drainingTime = 10 * time.Second
	// mostDraining bounds what a config key that changes again and again leaves.
	mostDraining = 4
)

// leave keeps a setup beside, the last one first.
func (a *Agent) leave(u *setup, worked bool, own subnet.Lease, now time.Time) {
	l := &leftSetup{setup: u, worked: worked, devices: u.devices(own), unused: now}
	if u.kind() == a.next.kind() {
		l.unsaid = now
	}
	a.left = slices.Insert(a.left, 0, l)
	for len(a.left) > mostDraining { // the oldest, and those first that nobody is told of
		i := len(a.left) - 1
		for j := i; j >= 0; j-- {
			if !a.left[j].unsaid.IsZero() {
				i = j
				break
			}
		}
		a.left = slices.Delete(a.left, i, i+1)
	}
}

// tendLeft lets go of setups whose time is over, and of those whose devices others have now.
func (a *Agent) tendLeft(own subnet.Lease, now time.Time) {
	if len(a.left) == 0 || !own.Subnet.IsValid() {
		return
	}
	owned := slices.Concat(a.current.devices(own), a.next.devices(own))
	a.left = slices.DeleteFunc(a.left, func(l *leftSetup) bool {
		l.renew(own)
		switch {
		case a.replaced(l, owned):
			return true
		case a.spoken(l, now):
			l.unsaid = time.Time{}
		case l.unsaid.IsZero() && (l.kind() == a.next.kind() || !l.tunnels() || !l.saidBy(own)):
			l.unsaid = now
		}
		over := !l.unsaid.IsZero() && now.Sub(l.unsaid) >= drainingTime
		if over && l.kind() != a.current.kind() {
			klog.InfoS("No peer needs the former backend any more", "backend", l.kind())
		}
		return over
	})
}

// tunnels tells whether there is an end of a setup that a lease could name.
func (u *setup) tunnels() bool {
	return slices.ContainsFunc(u.halves, func(h half) bool { return h.backend.Endpoint() != "" })
}

// replaced tells whether nothing is left of a setup but what others have. Of a device that was for both
// families and is for one now, peers may still send the other's packets to it.
func (a *Agent) replaced(l *leftSetup, owned []kernel.Device) bool {
	if len(l.devices) == 0 {
		return l.kind() == a.current.kind() || l.kind() == a.next.kind()
	}
	return !slices.ContainsFunc(l.devices, func(d kernel.Device) bool {
		return !slices.ContainsFunc(owned, func(has kernel.Device) bool { return has.Name == d.Name && serves(has, d) })
	})
}

// serves tells whether a device has an address of each family that another one has.
func serves(has, other kernel.Device) bool {
	return !slices.ContainsFunc(inet.Families(), func(f inet.Family) bool {
		return other.Addrs.Of(f).IsValid() && !has.Addrs.Of(f).IsValid()
	})
}

// noteUse notes by which setups that were left a peer is reached from now on.
func (a *Agent) noteUse(given []*leftSetup, now time.Time) {
	for _, l := range a.left {
		used := slices.Contains(given, l)
		if l.used && !used {
			l.unused = now
		}
		l.used = used
	}
}

// spoken tells whether our lease is to name a setup that was left.
func (a *Agent) spoken(l *leftSetup, now time.Time) bool {
	return (l.used || now.Sub(l.unused) < drainingTime) && l.kind() != a.next.kind() && l.kind() != a.current.kind()
}

// renew gives the devices the addresses of our lease. What that has no more stays.
func (l *leftSetup) renew(own subnet.Lease) {
	for _, d := range l.setup.devices(own) {
		i := slices.IndexFunc(l.devices, func(has kernel.Device) bool { return has.Name == d.Name })
		if i < 0 {
			l.devices = append(l.devices, d)
		} else {
			l.devices[i] = d
		}
	}
}

// dueLeft is how long until something of a setup that was left may change.
func (a *Agent) dueLeft(now time.Time) time.Duration {
	due := resync
	for _, l := range a.left {
		for _, t := range []time.Time{l.unused, l.unsaid} {
			if left := drainingTime - now.Sub(t); left > 0 && !l.used {
				due = min(due, left)
			}
		}
	}
	return due
}

// moveLeft makes the setups that were left again where this host's address or interface has changed.
func (a *Agent) moveLeft() {
	a.left = slices.DeleteFunc(a.left, func(l *leftSetup) bool {
		moved := *l.setup
		moved.halves = slices.Clone(moved.halves)
		for i, h := range moved.halves {
			at, used := a.current.of(h.family)
			if !used || inputsOf(at.host) == inputsOf(h.host) {
				continue
			}
			b, err := a.Backends[l.config.BackendType](h.config, at.host)
			if err != nil {
				klog.ErrorS(err, "Cannot keep the former backend beside for peers that still use it", "backend", l.kind())
				return true
			}
			moved.halves[i].host, moved.halves[i].backend = at.host, b
		}
		l.setup = &moved
		return false
	})
}
