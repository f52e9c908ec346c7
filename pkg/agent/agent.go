// Package agent is the daemon's one goroutine that owns the state: it looks at
// what there is (the store's view, the host's interfaces, the kernel), and
// brings about what there should be (this host's claim, kernel state, the
// subnet file, iptables rules). Everything that happens only makes it look
// again, so a lost event, a restart and a cable pulled out are all the same.
package agent

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"k8s.io/klog/v2"

	"flanneld/pkg/backend"
	"flanneld/pkg/condition"
	"flanneld/pkg/extif"
	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
	"flanneld/pkg/subnet"
	"flanneld/pkg/wgdevice"
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
	Direct(ips []netip.Addr, dev string) (direct []bool, errs []error)
	DefaultDev(inet.Family) (string, error)
	Lookup(ip netip.Addr) (via netip.Addr, dev string, err error)
	// PeersChanged tells whether others may have changed what raises no event since the last call. It is
	// cheap.
	PeersChanged() (bool, error)
}

// Changes tells of the kernel's; kernel.Watcher.
type Changes interface {
	Changed() <-chan struct{}
	Routing() uint64
	Filter(devices, links []string)
}

// FileChanges tells that a file was changed; filewatch.Watch.
type FileChanges interface{ Changed() <-chan struct{} }

// Options are what an Agent works with.
type Options struct {
	Leases   Leases
	Kernel   Kernel
	Changes  Changes
	Needs    Needs                      // nil: nobody tells
	Backends map[string]backend.Factory // by the config key's Backend.Type
	External extif.Options
	Dir      subnet.Dir // of the keys in etcd, for people; nil: not known

	// PrivateKey reads this host's key for WireGuard. Nil: backends have none.
	PrivateKey func() (wgdevice.Secret, error)
	KeyChanges FileChanges // of its file; nil: nobody tells

	SubnetFile string
	// Former is the subnet file as it was found: of the run before, or written by hand.
	// What lies in its network in the kernel is this daemon's.
	Former      subnet.Env
	FileChanges FileChanges // nil: nobody tells of the subnet file's
	// SetRules says what the firewall of a family is to be made for: this host's subnet, and
	// the paths by which packets come from peers. What it returns is closed once
	// the rules have been seen in place; nil: nobody tells. SetRules is nil where nothing is wanted.
	SetRules func(c subnet.Config, own netip.Prefix, peers []rules.Peer) (placed <-chan struct{})
	// UnsetRules says that a family is not used, in each pass. It goes with SetRules.
	UnsetRules func(inet.Family)
	IPMasq     bool // what the subnet file says of masquerading

	// Exclusive is what no two daemons of a host can have. Nil: there is no other.
	Exclusive Exclusive

	// Conditions is where the agent keeps what is wrong. Nil: in a Set of its own.
	Conditions *condition.Set

	// Note is told of what becomes otherwise on this host, as phrases for people. Nil: nobody
	// wants to know.
	Note func(text string)

	// Ready is called once everything is in place for the first time.
	Ready func(subnet.Lease)

	// Applied is told how long it took to look at the kernel and put it right,
	// and whether that worked. Nil: nobody wants to know.
	Applied func(took time.Duration, err error)
}

// Exclusive is what only one daemon of a host can have.
type Exclusive interface {
	// Hold takes a network and devices. The error names what another daemon has.
	Hold(network netip.Prefix, devices []string) error
	// Only lets go of all others.
	Only(networks []netip.Prefix, devices []string)
}

// Agent is the reconciler.
type Agent struct {
	Options
	syncer *kernel.Syncer

	inputs   inputs // what next was made from
	parsed   parsedConfig
	places   [2]place      // where each family's packets leave this host
	wanted   []inet.Family // that the config asks for, and those at work
	again    bool          // the next setup could not be made for now
	next     *setup        // what the config asks for
	current  *setup        // what the lease says: at work in the kernel
	left     []*leftSetup  // for peers that have not heard of its end, or do not change
	told     toldTimes
	news     leaseNews
	newsDue  time.Duration // that some of it stays
	resumed  resumed
	silent   bool // a device is wanted whose peers change unheard, or whose tunnel may end so
	changing changing
	inbound  inboundPaths
	beneath  beneath
	suspects suspects
	self     subnet.Self

	claimedFor *setup         // what the lease is to say
	claimed    subnet.Claim   // with that
	networks   []netip.Prefix // that this run and the one before have worked in; nil: not known

	choosing, applying, writing *condition.Retry // the interface, the kernel, the subnet file
	ready                       bool
	wasReady                    bool         // as it was noted
	unannounced                 subnet.Lease // that all is in place for, but perhaps the firewall's rules; zero: not all
	file                        fileRepairs
	firewall                    firewall

	asked  chan func() // what others want to know; see Status
	paths  pathTimes
	held   subnet.Lease // our own, when they were found
	latest applied
}

// setup is one config at work, with a backend of each family.
type setup struct {
	config subnet.Config
	asked  subnet.Config // by the config key, where that is of other addresses than config; zero: it is not
	halves []half        // one of each of the config's families, IPv4's first
	since  time.Time     // when it was made
}

// half is a setup as one family sees it, on one external interface.
type half struct {
	family  inet.Family
	config  subnet.Config
	host    backend.Host
	backend backend.Backend
}

// of is a setup's half of a family; false: it has none.
func (u *setup) of(f inet.Family) (half, bool) {
	for _, h := range u.halves {
		if h.family == f {
			return h, true
		}
	}
	return half{}, false
}

// without is a setup that leaves families out.
func (u *setup) without(families []inet.Family) *setup {
	left := &setup{since: u.since}
	var kept []inet.Family
	for _, h := range u.halves {
		if !slices.Contains(families, h.family) {
			left.halves, kept = append(left.halves, h), append(kept, h.family)
		}
	}
	left.config = u.config.Only(kept)
	return left
}

// attrs is what our lease must say.
func (u *setup) attrs() subnet.Attrs {
	a := u.halves[0].backend.Attrs()
	if len(u.halves) > 1 {
		second := u.halves[1].backend.Attrs()
		a.IPv6 = subnet.Endpoint{PublicIP: second.PublicIP, BackendData: second.BackendData}
	}
	return a
}

// mtu is what a container's packets of any family may have, in bytes.
func (u *setup) mtu() int {
	least := u.halves[0].backend.MTU()
	for _, h := range u.halves {
		least = min(least, h.backend.MTU())
	}
	return least
}

// links are the external interfaces.
func (u *setup) links() (all []string) {
	for _, h := range u.halves {
		if !slices.Contains(all, h.host.Link.Name) {
			all = append(all, h.host.Link.Name)
		}
	}
	return all
}

const (
	retryLongest = time.Minute
	// resync bounds how long an error that no event told of goes unnoticed.
	resync = 10 * time.Minute
	// lookAtPeers is how often it is seen whether somebody has changed a device's peers.
	lookAtPeers = 1500 * time.Millisecond
)

// New returns an Agent; Run starts it.
func New(o Options) *Agent {
	if o.Conditions == nil {
		o.Conditions = &condition.Set{}
	}
	if o.Note == nil {
		o.Note = func(string) {}
	}
	retry := func(code condition.Code, what string) *condition.Retry {
		return condition.NewRetry(o.Conditions, code, what, retryLongest)
	}
	a := &Agent{
		Options:  o,
		syncer:   kernel.NewSyncer(o.Kernel),
		choosing: retry(condition.InterfaceMissing, "choose the external interface"),
		applying: retry(condition.KernelNotApplied, "apply kernel state"),
		writing:  retry(condition.SubnetFileUnwritten, "write the subnet file "+o.SubnetFile),
		asked:    make(chan func()),
	}
	a.worksIn(o.Former.Networks()...)
	return a
}

func (a *Agent) String() string { return "agent" }

// Run works until ctx ends, and leaves everything in place.
func (a *Agent) Run(ctx context.Context) error {
	again := time.NewTimer(0)
	defer again.Stop()
	peers := time.NewTimer(resync)
	defer peers.Stop()
	news := a.sources()
	var rested time.Time // when the next pass may be made
	silent := false
	for {
		trigger := ""
		select {
		case <-ctx.Done():
			return nil
		case answer := <-a.asked:
			answer()
			continue
		case <-news[0]:
			trigger = "etcd"
		case <-news[1]:
			trigger = "kernel"
		case <-news[2]:
			trigger = "etcd's addresses"
		case <-news[3]:
			trigger = "subnet file"
		case <-news[4]:
			trigger = "private key"
		case <-again.C:
			trigger = "timer"
		case <-peers.C:
			next, changed := a.peersChanged()
			peers.Reset(next)
			if !changed {
				continue
			}
			trigger = "a device's peers"
		case <-a.firewall.news():
			a.rulesSeen(time.Now())
			continue
		}
		if !a.rest(ctx, rested, news) {
			return nil
		}
		start := time.Now()
		next := a.pass(ctx, start)
		took := time.Since(start)
		if v := klog.V(1); v.Enabled() {
			v.InfoS("Made a pass", "trigger", trigger, "took", took, "nextIn", next)
		}
		again.Reset(next)
		if a.silent && !silent {
			peers.Reset(lookAtPeers)
		}
		silent = a.silent
		rested = start.Add(took + a.restAfter(took))
	}
}

// sources tell of changes; nil: nobody does.
func (a *Agent) sources() []<-chan struct{} {
	all := []<-chan struct{}{a.Leases.Changed(), a.Changes.Changed(), nil, nil, nil}
	if a.Needs != nil {
		all[2] = a.Needs.Changed()
	}
	for i, file := range []FileChanges{a.FileChanges, a.KeyChanges} {
		if file != nil {
			all[3+i] = file.Changed()
		}
	}
	return all
}

// peersChanged tells whether a pass is due as somebody has changed a device's peers, of which the kernel
// tells nobody, and when to look again.
func (a *Agent) peersChanged() (next time.Duration, changed bool) {
	if !a.silent {
		return resync, false
	}
	changed, err := a.Kernel.PeersChanged()
	if err != nil { // which the pass says, if it fails likewise
		return retryLongest, true
	}
	return lookAtPeers, changed
}

// restAfter is how long a pass is rested after. Until this host works, what it waits for
// is its own lease.
func (a *Agent) restAfter(took time.Duration) time.Duration {
	if a.current == nil {
		return min(took, 2*time.Second)
	}
	return min(4*took, 2*time.Second)
}

// rest makes few passes of many events: it waits for those that follow a first one,
// longer where a pass takes long. A single event finds it over, and no timer wakes the
// program for that. False: ctx has ended.
func (a *Agent) rest(ctx context.Context, until time.Time, news []<-chan struct{}) bool {
	left := time.Until(until)
	if left <= 0 {
		return true
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case answer := <-a.asked:
			answer()
		case <-a.firewall.news():
			a.rulesSeen(time.Now())
		case <-timer.C:
			for _, n := range news { // the pass to come looks at all of it
				select {
				case <-n:
				default:
				}
			}
			return true
		}
	}
}
