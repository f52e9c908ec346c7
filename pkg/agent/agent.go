// Package agent is the daemon's one goroutine that owns the state: it looks at
// what there is (the store's view, the host's interfaces, the kernel), and
// brings about what there should be (this host's claim, kernel state, the
// subnet file, iptables rules). Everything that happens only makes it look
// again, so a lost event, a restart and a cable pulled out are all the same.
package agent

import (
	"bytes"
	"context"
	"net/netip"
	"time"

	"k8s.io/klog/v2"

	"flanneld/pkg/backend"
	"flanneld/pkg/condition"
	"flanneld/pkg/extif"
	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
	"flanneld/pkg/subnet"
)

// Leases is this host's lease and everybody else's; subnet.Manager.
type Leases interface {
	View() subnet.View
	Changed() <-chan struct{}
	Claim(subnet.Claim)
}

// Kernel is the host's network; kernel.Netlink.
type Kernel interface {
	kernel.Conn
	Direct(ip netip.Addr, dev string) (bool, error)
	DefaultDev(inet.Family) (string, error)
}

// Changes tells of the kernel's; kernel.Watcher.
type Changes interface {
	Changed() <-chan struct{}
	Routing() uint64
	Filter(devices, links []string)
}

// Options are what an Agent works with.
type Options struct {
	Leases   Leases
	Kernel   Kernel
	Changes  Changes
	Backends map[string]backend.Factory // by the config key's Backend.Type
	External extif.Options

	SubnetFile string
	// SetRules says what the firewall is to be made for: this host's subnet, and
	// the ways by which packets come from peers. What it returns is closed once
	// that is so; nil: nobody tells. SetRules is nil where nothing is wanted.
	SetRules func(c subnet.Config, own netip.Prefix, peers []rules.Peer) (placed <-chan struct{})
	IPMasq   bool // what the subnet file says of masquerading

	// Conditions is where the agent keeps what is wrong. Nil: in a Set of its own.
	Conditions *condition.Set

	// Ready is called once everything is in place for the first time.
	Ready func(subnet.Lease)

	// Applied is told how long it took to look at the kernel and put it right,
	// and whether that worked. Nil: nobody wants to know.
	Applied func(took time.Duration, err error)
}

// Agent is the reconciler.
type Agent struct {
	Options
	syncer *kernel.Syncer

	inputs     inputs // what next was made from
	next       *mode  // what the config asks for
	claimed    *mode  // what the lease is to say
	current    *mode  // what the lease says: at work in the kernel
	draining   draining
	onLink     onLinkCache
	inbound    inboundPaths
	lost       addressLoss // of the address in use
	contention contention

	choosing, applying, writing *condition.Retry // the interface, the kernel, the subnet file
	ready                       bool

	asked  chan func() // what others want to know; see Status
	paths  pathTimes
	latest applied
}

// mode is a backend under one config, on one external interface.
type mode struct {
	config  subnet.Config
	host    backend.Host
	backend backend.Backend
	since   time.Time      // when it was made
	expect  []kernel.Route // while it is the next one: by these, peers may come soon
}

const (
	retryLongest = time.Minute
	// resync bounds how long an error that no event told of goes unnoticed.
	resync = 10 * time.Minute
)

// New returns an Agent; Run starts it.
func New(o Options) *Agent {
	if o.Conditions == nil {
		o.Conditions = &condition.Set{}
	}
	retry := func(code condition.Code, what string) *condition.Retry {
		return condition.NewRetry(o.Conditions, code, what, retryLongest)
	}
	return &Agent{
		Options:  o,
		syncer:   kernel.NewSyncer(o.Kernel),
		choosing: retry(condition.InterfaceMissing, "choose the external interface"),
		applying: retry(condition.KernelNotApplied, "apply kernel state"),
		writing:  retry(condition.SubnetFileUnwritten, "write the subnet file "+o.SubnetFile),
		asked:    make(chan func()),
		inbound:  inboundPaths{},
	}
}

func (a *Agent) String() string { return "agent" }

// Run works until ctx ends, and leaves everything in place.
func (a *Agent) Run(ctx context.Context) error {
	again := time.NewTimer(resync)
	defer again.Stop()
	for {
		kernelChanged := a.Changes.Changed()
		if a.contention.backsOff(time.Now()) {
			kernelChanged = nil
		}
		select {
		case <-ctx.Done():
			return nil
		case answer := <-a.asked:
			answer()
			continue
		case <-a.Leases.Changed():
		case <-kernelChanged:
		case <-again.C:
		}
		start := time.Now()
		again.Reset(a.pass(ctx, start))
		if !a.rest(ctx, time.Since(start)) {
			return nil
		}
	}
}

// rest makes few passes of many events: it waits for some of those that follow
// a first one, longer where a pass takes long. False: ctx has ended.
func (a *Agent) rest(ctx context.Context, took time.Duration) bool {
	timer := time.NewTimer(min(4*took, 2*time.Second))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case answer := <-a.asked:
			answer()
		case <-timer.C:
			return true
		}
	}
}

// pass looks at everything once, and returns when to look again at the latest.
func (a *Agent) pass(ctx context.Context, now time.Time) time.Duration {
	view := a.Leases.View()
	if !view.Listed {
		return resync // nothing is known: what works stays as it is
	}
	host, links, err := a.lookAround(view)
	if err != nil {
		return a.choosing.Failed(err)
	}
	a.choosing.Succeeded()
	if a.linkDown(host.Link) {
		return resync
	}
	a.configure(view.Config, host)
	if a.next == nil {
		return resync
	}
	again := a.switchOver(view, now)
	return min(again, a.settle(ctx, view, links, now))
}

// switchOver takes the next mode to work once our lease says so: from then on
// peers reach us by it. Where our lease says so already, no peer hears of the
// change by it: then each waits until all have heard of the config. It returns when
// to look again for that.
func (a *Agent) switchOver(view subnet.View, now time.Time) time.Duration {
	if a.current == a.next || !view.Own.Subnet.IsValid() || view.Own.Attrs != a.next.backend.Attrs() || !a.next.config.Fits(view.Own.Subnet) {
		return resync
	}
	if a.current != nil && a.current.backend.Attrs() == a.next.backend.Attrs() && !bytes.Equal(a.current.config.Backend, a.next.config.Backend) {
		if left := hearsay - now.Sub(a.next.since); left > 0 {
			return left
		}
	}
	if a.current != nil {
		a.draining.add(a.current.devices(view.Own), now)
		klog.Infof("switched from %s to %s", a.current.config.BackendType, a.next.config.BackendType)
	}
	a.current = a.next
	return resync
}

// hearsay is ample for a watch to tell all peers of a config.
const hearsay = 500 * time.Millisecond

// settle brings the kernel, the subnet file and the rules into the state that
// the current mode asks for, and then lets the lease say what the next one
// needs: a peer that hears of a new mode finds it prepared.
func (a *Agent) settle(ctx context.Context, view subnet.View, links []kernel.Link, now time.Time) time.Duration {
	again, settled := a.applyKernel(view, links, now)
	working := a.current != nil && view.Own.Subnet.IsValid()
	var placed <-chan struct{}
	if working && a.SetRules != nil {
		placed = a.SetRules(a.current.config, view.Own.Subnet, a.inbound.peers())
	}
	if settled && a.claimed != a.next {
		await(ctx, placed)
		a.claimed = a.next
		a.Leases.Claim(subnet.Claim{Config: a.next.config, Attrs: a.next.backend.Attrs(), Addrs: addrs([]kernel.Link{a.next.host.Link})})
	}
	if !working {
		return again
	}
	again = min(again, a.writeFile(view.Own))
	if settled && !a.ready && !a.writing.Failing() {
		a.ready = true
		a.Ready(view.Own)
	}
	return again
}

// rulesTime bounds the wait for firewall rules, which may fail.
const rulesTime = time.Second

// await waits until the firewall lets in what comes by the next mode: peers use it
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

func (a *Agent) writeFile(own subnet.Lease) time.Duration {
	wrote, err := subnet.WriteEnv(a.SubnetFile, subnet.Env{
		Network: a.current.config.Network, Subnet: own.Subnet, MTU: a.current.backend.MTU(), IPMasq: a.IPMasq,
	})
	if err != nil {
		return a.writing.Failed(err)
	}
	a.writing.Succeeded()
	if wrote {
		klog.Infof("wrote %s: subnet %v, MTU %d", a.SubnetFile, own.Subnet, a.current.backend.MTU())
	}
	return resync
}
