package agent

import (
	"bytes"
	"context"
	"time"

	"k8s.io/klog/v2"

	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
	"flanneld/pkg/subnet"
)

// pass looks at everything once, and returns when to look again at the latest.
func (a *Agent) pass(ctx context.Context, now time.Time) time.Duration {
	a.unannounced = subnet.Lease{}
	view := a.Leases.View()
	if !view.Listed {
		return a.protect() // nothing is known: what works stays as it is
	}
	routing := a.Changes.Routing()
	view, wait := a.paced(view, now)
	hosts, links, err := a.lookAround(view, now)
	if err != nil {
		return min(a.choosing.Failed(err), a.beforeSetup(), a.addressDue(now))
	}
	a.choosing.Succeeded()
	if a.waitsForLink(hosts) {
		return a.beforeSetup()
	}
	a.configure(view, hosts)
	if a.again {
		wait = min(wait, makeAgain)
	}
	if a.next == nil {
		return min(wait, a.beforeSetup())
	}
	own := a.ownSubnets(formerLease(view, a.self, subnet.Proof))
	if _, err := a.lookBeneath(routing, links, linksOf(hosts), own); err != nil {
		return a.applying.Failed(err)
	}
	a.look(now)
	a.trackAddresses(view) // before the view's leases are picked from
	again := min(wait, a.switchOver(view, now), a.settle(ctx, view, links, now))
	a.trackOverlap(view.Own)
	a.trackConsequences(view, now)
	return min(again, a.suspects.next())
}

// beforeSetup does what can be done as long as nothing is known of what there should be.
func (a *Agent) beforeSetup() time.Duration {
	if a.next != nil {
		return resync
	}
	return a.protect()
}

// switchOver takes the next setup to work once our lease says so: from then on
// peers reach us by it. A change of the config waits until all peers are prepared to
// be reached by it as well. It returns when to look again for that.
func (a *Agent) switchOver(view subnet.View, now time.Time) time.Duration {
	a.noteFormer(view)
	a.trackTold(view.Own, now)
	a.tendLeft(view.Own, now)
	if a.current == a.next || !view.Own.Subnet.IsValid() || !view.Own.Says(a.attrs(now)) {
		return resync
	}
	if lacking := a.next.config.Lacking(view.Own.Subnets()); len(lacking) > 0 {
		return a.makeDo(lacking, now)
	}
	if a.current != nil && !bytes.Equal(a.current.config.Backend, a.next.config.Backend) {
		if a.changing.waiting() {
			return resync // until then
		}
		if left := max(propagation-now.Sub(a.next.since), a.untilKnown(a.next, now)); left > 0 {
			return left
		}
	}
	former := a.current
	a.current = a.next
	if former == nil {
		a.resumed.begin(now)
	} else {
		a.leave(former, true, view.Own, now)
		a.moveLeft()
		a.tendLeft(view.Own, now)
		klog.InfoS("Switched to the new config", "from", former.kind(), "to", a.current.kind())
		if former.kind() != a.current.kind() {
			a.Note("switched from " + former.kind() + " to " + a.current.kind())
		}
	}
	return resync
}

// makeDo takes a setup to work without the families of which our lease has no subnet, where
// nothing is at work: no subnet may be free. It returns when to look again for that.
func (a *Agent) makeDo(lacking []inet.Family, now time.Time) time.Duration {
	if a.current != nil {
		return resync
	}
	if left := addressWait - now.Sub(a.next.since); left > 0 {
		return left
	}
	if some := a.next.without(lacking); len(some.halves) > 0 {
		a.current = some
	}
	return resync
}

// propagation is ample for all peers to hear of a config and to prepare for it, also
// where they rest after a pass that took long.
const propagation = 3 * time.Second

// settle brings the kernel, the subnet file and the rules into the state that
// the current setup asks for, and then lets the lease say what the next one
// needs: a peer that hears of a new setup finds it prepared.
func (a *Agent) settle(ctx context.Context, view subnet.View, links []kernel.Link, now time.Time) time.Duration {
	again, settled := a.applyKernel(view, links, now)
	working := a.current != nil && view.Own.Subnet.IsValid()
	if working && a.SetRules != nil {
		a.firewall.waitFor(a.setRules(view.Own), now)
	}
	claim := subnet.Claim{Config: a.next.config, Attrs: a.attrs(now), Self: a.self}
	for _, h := range a.next.halves {
		claim.Reserved = append(claim.Reserved, a.beneath.host.Reserved(h.config.Network, h.config.SubnetLen)...)
	}
	early := !view.Current && len(a.ahead(view.Own)) > 0 // peers would hear of what is not there
	if early {
		again = min(again, makeAgain)
	}
	if settled && !early && !a.changing.waiting() && a.claims(claim, view) {
		if working {
			a.firewall.await(ctx)
		}
		a.claimedFor, a.claimed = a.next, claim
		a.Leases.Claim(claim)
	}
	if !working {
		return again
	}
	again = min(again, a.writeFile(view.Own, now))
	if settled && !a.ready && !a.writing.Failing() {
		a.unannounced = view.Own
		again = min(again, a.announce(now))
	}
	return again
}

// announce says that this host is ready, once the firewall's rules have been seen or have
// been waited for. It returns when to try again at the latest.
func (a *Agent) announce(now time.Time) time.Duration {
	if left := a.firewall.left(now); left > 0 {
		return left
	}
	own := a.unannounced
	a.unannounced, a.ready = subnet.Lease{}, true
	a.Ready(own)
	return resync
}

// rulesSeen takes up that the firewall's rules are in place. It changes nothing of what
// there should be, so it waits for no pass, which may rest for seconds in a large cluster.
func (a *Agent) rulesSeen(now time.Time) {
	a.firewall.heard = a.firewall.inPlace()
	if a.unannounced.Subnet.IsValid() {
		a.announce(now)
	}
	a.trackConsequences(a.Leases.View(), now)
}

// setRules has the firewall made for each family, and says what tells that the rules are
// in place.
func (a *Agent) setRules(own subnet.Lease) (placed []<-chan struct{}) {
	for _, f := range inet.Families() {
		h, used := a.current.of(f)
		own, has := own.For(f)
		if !used || !has {
			a.UnsetRules(f)
			continue
		}
		if c := a.SetRules(h.config, own.Subnet, a.inbound.peers(f)); c != nil {
			placed = append(placed, c)
		}
	}
	return placed
}
