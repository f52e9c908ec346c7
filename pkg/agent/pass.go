package agent

import (
	"bytes"
	"context"
	"time"

	"k8s.io/klog/v2"

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
	host, links, err := a.lookAround(view)
	if err != nil {
		return min(a.choosing.Failed(err), a.beforeSetup())
	}
	a.choosing.Succeeded()
	if a.waitsForLink(host.Link) {
		return a.beforeSetup()
	}
	view, wait := a.paced(view, now)
	a.configure(view, host)
	if a.taken {
		wait = min(wait, takenAgain)
	}
	if a.next == nil {
		return min(wait, a.beforeSetup())
	}
	own := a.ownSubnets(formerLease(view, a.self, subnet.Proof))
	if _, err := a.lookBeneath(routing, links, host.Link.Name, own); err != nil {
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
	if a.current == a.next || !view.Own.Subnet.IsValid() || view.Own.Attrs != a.next.backend.Attrs() ||
		!a.next.config.Fits(view.Own.Subnet) {
		return resync
	}
	if a.current != nil && !bytes.Equal(a.current.config.Backend, a.next.config.Backend) {
		if a.changing.waiting() {
			return resync // until then
		}
		if left := propagation - now.Sub(a.next.since); left > 0 {
			return left
		}
	}
	if a.current != nil {
		a.draining.add(a.current.devices(view.Own), now)
		klog.InfoS("Switched to the new config", "from", a.current.config.BackendType, "to", a.next.config.BackendType)
	}
	a.current = a.next
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
	var placed <-chan struct{}
	if working && a.SetRules != nil {
		placed = a.SetRules(a.current.config, view.Own.Subnet, a.inbound.peers())
		a.firewall.waitFor(placed, now)
	}
	reserved := a.beneath.host.Reserved(a.next.config.Network, a.next.config.SubnetLen)
	claim := subnet.Claim{
		Config: a.next.config, Attrs: a.next.backend.Attrs(), Self: a.self, Reserved: reserved,
	}
	if settled && !a.changing.waiting() && a.claims(claim, view) {
		await(ctx, placed)
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

// rulesTime bounds the wait for firewall rules, which may fail.
const rulesTime = time.Second

// await waits until the firewall lets in what comes by the next setup: peers use it
// once they hear of it.
func await(ctx context.Context, placed <-chan struct{}) {
	if placed == nil {
		return
	}
	timer := time.NewTimer(rulesTime)
	defer timer.Stop()
	select {
	case <-placed:
	case <-timer.C:
	case <-ctx.Done():
	}
}
