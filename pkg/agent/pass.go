package agent

import (
	"bytes"
	"time"

	"k8s.io/klog/v2"

	"flanneld/pkg/kernel"
	"flanneld/pkg/subnet"
)

// pass looks at everything once, and returns when to look again at the latest.
func (a *Agent) pass(now time.Time) time.Duration {
	view := a.Leases.View()
	if !view.Listed {
		return resync // nothing is known: what works stays as it is
	}
	host, links, err := a.lookAround(view)
	if err != nil {
		return a.choosing.Failed(err)
	}
	a.choosing.Succeeded()
	if a.waitsForLink(host.Link) {
		return resync
	}
	text, again := a.pacedConfig(view.Config, now)
	a.configure(text, host)
	if a.next == nil {
		return again
	}
	again = min(again, a.switchOver(view, now), a.settle(view, links, now))
	a.trackConsequences(view, now)
	return again
}

// switchOver takes the next setup to work once our lease says so: from then on
// peers reach us by it. Where our lease says so already, no peer hears of the
// change by it: then each waits until all have heard of the config. It returns when
// to look again for that.
func (a *Agent) switchOver(view subnet.View, now time.Time) time.Duration {
	if a.current == a.next || !view.Own.Subnet.IsValid() || view.Own.Attrs != a.next.backend.Attrs() ||
		!a.next.config.Fits(view.Own.Subnet) {
		return resync
	}
	if a.current != nil && a.current.backend.Attrs() == a.next.backend.Attrs() &&
		!bytes.Equal(a.current.config.Backend, a.next.config.Backend) {
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

// propagation is ample for a watch to tell all peers of a config.
const propagation = 500 * time.Millisecond

// settle brings the kernel, the subnet file and the rules into the state that
// the current setup asks for, and then lets the lease say what the next one
// needs: a peer that hears of a new setup finds it prepared.
func (a *Agent) settle(view subnet.View, links []kernel.Link, now time.Time) time.Duration {
	again, settled := a.applyKernel(view, links, now)
	working := a.current != nil && view.Own.Subnet.IsValid()
	a.unplaced = nil
	if working && a.SetRules != nil {
		a.unplaced = open(a.SetRules(a.current.config, view.Own.Subnet, a.inbound.peers()))
	}
	if settled && a.claimed != a.next {
		if left := a.rulesLeft(now); left > 0 {
			again = min(again, left)
		} else {
			a.claim()
		}
	}
	if !working {
		return again
	}
	again = min(again, a.writeFile(view.Own))
	if settled && !a.ready && !a.writing.Failing() && a.unplaced == nil {
		a.ready = true
		a.Ready(view.Own)
	}
	return again
}

// rulesTime bounds the wait for firewall rules, which may fail.
const rulesTime = time.Second

// rulesLeft is how long to wait still for the firewall to let in what comes by the
// next setup: peers use it once they hear of it.
func (a *Agent) rulesLeft(now time.Time) time.Duration {
	if a.unplaced == nil {
		return 0
	}
	if a.next.asked.IsZero() {
		a.next.asked = now
	}
	return rulesTime - now.Sub(a.next.asked)
}

// open is nil where a channel is closed.
func open(c <-chan struct{}) <-chan struct{} {
	select {
	case <-c:
		return nil
	default:
		return c
	}
}

func (a *Agent) claim() {
	a.claimed = a.next
	a.Leases.Claim(
		subnet.Claim{Config: a.next.config, Attrs: a.next.backend.Attrs(), Addrs: addrs([]kernel.Link{a.next.host.Link})},
	)
}

func (a *Agent) writeFile(own subnet.Lease) time.Duration {
	wrote, err := subnet.WriteEnv(a.SubnetFile, subnet.Env{
		Network: a.current.config.Network, Subnet: own.Subnet, MTU: a.current.backend.MTU(), IPMasq: a.IPMasq,
	})
	if err != nil {
		return a.writing.Failed(err)
	}
	a.writing.Succeeded()
	if wrote {
		klog.InfoS("Wrote the subnet file", "file", a.SubnetFile, "subnet", own.Subnet, "mtu", a.current.backend.MTU())
	}
	return resync
}
