package agent_test

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"flanneld/pkg/kernel"
	"flanneld/pkg/kernel/kerneltest"
	"flanneld/pkg/subnet/subnettest"
	"flanneld/pkg/underlay"
)

// etcdAt is an agent.Needs.
type etcdAt struct {
	mu      sync.Mutex
	all     []underlay.Need
	changed chan struct{}
}

func (e *etcdAt) Needs() []underlay.Need {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.all)
}

func (e *etcdAt) Heard() time.Time { return time.Time{} }

func (e *etcdAt) Changed() <-chan struct{} { return e.changed }

// is says where etcd is, from now on.
func (e *etcdAt) is(address string) {
	e.mu.Lock()
	e.all = append(e.all, underlay.Address(netip.MustParseAddr(address), "etcd"))
	e.mu.Unlock()
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

const (
	over       = `{"Network": "10.4.0.0/16", "Backend": {"Type": "host-gw"}}`
	goodRoute  = `ip route add 10.4.22.0/24 via 10.4.7.22 dev ens33 proto 77`
	etcdsRoute = `ip route add 10.4.8.0/24 via 10.4.7.22 dev ens33 proto 77`
)

func (h *host) run(commands ...string) {
	h.t.Helper()
	h.with(func(k *kerneltest.Kernel) {
		for _, c := range commands {
			if err := k.Run(c); err != nil {
				h.t.Error(err)
			}
		}
	})
}

func (h *host) says(want string) {
	h.t.Helper()
	var all []string
	for _, c := range h.ask().Conditions {
		all = append(all, c.Text())
	}
	if !slices.ContainsFunc(all, func(s string) bool { return strings.Contains(s, want) }) {
		h.t.Errorf("%q, want one with %q", all, want)
	}
}

// TestUnderlay has a network over the hosts' own addresses: leases that take of them
// get no route, and the others do.
func TestUnderlay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", over, 0)
		h := newHost(t, store, 21)
		h.own = netip.MustParsePrefix("10.4.21.0/24")
		h.needs.all = []underlay.Need{underlay.Address(netip.MustParseAddr("10.4.8.12"), "etcd")}
		h.start()
		defer func() { h.stop() }()
		h.run("ip route add 0.0.0.0/0 via 10.4.7.254 dev ens33 proto boot")
		for subnet, ip := range map[string]string{
			"10.4.22.0-24": "10.4.7.22", // a good one
			"10.4.8.0-24":  "10.4.7.22", // etcd's
			"10.4.7.0-24":  "10.4.9.5",  // the hosts'
			"10.4.9.0-24":  "10.4.7.23", // holds a peer's public IP
			"10.4.30.0-24": "10.4.9.5",  // that peer; not on the link
			"10.4.31.0-24": "10.4.7.255",
			"10.4.32.0-24": "10.4.7.0",
		} {
			store.Set("subnets/"+subnet, `{"PublicIP":"`+ip+`","BackendType":"host-gw"}`, 0)
		}
		settle(time.Second)
		const way = "ip route add 0.0.0.0/0 via 10.4.7.254 dev ens33 proto 3"
		h.shows(way + "\n" + goodRoute)
		for _, want := range []string{
			`ignoring the lease "subnets/10.4.8.0-24": it takes away 10.4.8.12 (etcd), which this host needs`,
			`ignoring the lease "subnets/10.4.7.0-24": it takes away 10.4.7.254 (the default gateway), which this host needs`,
			`ignoring the lease "subnets/10.4.9.0-24": it takes away 10.4.9.5, the public IP of the host with 10.4.30.0/24`,
			`ignoring the lease "subnets/10.4.31.0-24": it has the public IP 10.4.7.255, which is the broadcast address of 10.4.7.0/24 (the network of ens33)`,
			`ignoring the lease "subnets/10.4.32.0-24": it has the public IP 10.4.7.0, which is the network address of 10.4.7.0/24 (the network of ens33)`,
			`the cluster's network 10.4.0.0/16 holds 10.4.8.12 (etcd), which this host needs`,
			`the cluster's network 10.4.0.0/16 holds 10.4.7.0/24 (the network of ens33), which this host needs`,
		} {
			h.says(want)
		}
		// A name of etcd's turns out to stand for an address in the good one too: the
		// route goes at once, also while nothing else is removed.
		h.silent.Store(true)
		settle(2 * time.Second)
		h.needs.is("10.4.22.9")
		settle(2 * time.Second)
		h.shows(way)
		// A longer route of the host's own gets the better of it.
		h.run("ip route add 10.4.22.9/32 via 10.4.7.254 dev ens33 proto static")
		settle(2 * time.Second)
		h.contains(goodRoute)
	})
}

// TestEarlierRun starts beside what an earlier run has put into the kernel, while
// etcd is out of reach for it.
func TestEarlierRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", over, 0)
		store.Set("subnets/10.4.22.0-24", `{"PublicIP":"10.4.7.22","BackendType":"host-gw"}`, 0)
		store.Set("subnets/10.4.8.0-24", `{"PublicIP":"10.4.7.22","BackendType":"host-gw"}`, 0)
		h := newHost(t, store, 21)
		h.own, h.resumed = netip.MustParsePrefix("10.4.21.0/24"), true
		const (
			theirs = `ip route add 10.4.8.0/24 via 10.4.7.200 dev ens33 proto 4` // somebody else's, behind ours
			older  = `ip route add 10.4.8.0/26 via 10.4.8.0 dev flannel.1 onlink proto 3`
			half   = `ip route add 10.4.7.0/25 via 10.4.7.23 dev ens33 proto 77` // nobody is known to be in it
		)
		h.kernel.AddLink(kernel.Link{Name: "flannel.1", Type: "vxlan", Kind: kernel.VXLAN{VNI: 1}, MTU: 1450, Up: true})
		for _, r := range []string{goodRoute, etcdsRoute, strings.Replace(theirs, "add", "append", 1), older, half} {
			if err := h.kernel.Run(r); err != nil {
				t.Fatal(err)
			}
		}
		h.client.Partition(true)
		h.start()
		defer func() { h.stop() }()
		settle(time.Second)
		h.contains(etcdsRoute) // nothing says that etcd is there
		h.needs.is("10.4.8.12")
		settle(time.Second)
		got := h.render()
		if strings.Contains(got, etcdsRoute) || strings.Contains(got, older) {
			t.Errorf("the routes to etcd stay:\n%s", got)
		}
		for _, want := range []string{goodRoute, theirs, half} {
			h.contains(want)
		}
		h.says("took back the route to 10.4.8.0/24, which led 10.4.8.12 (etcd) into the network")
		h.client.Partition(false)
		settle(time.Minute)
		h.contains(goodRoute)
		if got := h.render(); strings.Contains(got, etcdsRoute) || strings.Contains(got, half) {
			t.Errorf("after etcd is there:\n%s", got)
		}
		h.says(`ignoring the lease "subnets/10.4.8.0-24"`)
	})
}

// TestOwnSubnet: none is leased that this host or a peer is reached in; one that is
// held is kept, and told of.
func TestOwnSubnet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", `{"Network":"10.4.0.0/16","SubnetMin":"10.4.7.0","SubnetMax":"10.4.10.0","Backend":{"Type":"host-gw"}}`, 0)
		store.Set("subnets/10.4.100.0-24", `{"PublicIP":"10.4.9.5","BackendType":"host-gw"}`, 0)
		h := newHost(t, store, 21)
		h.own = netip.MustParsePrefix("10.4.8.0/24") // as it had before
		h.needs.all = []underlay.Need{underlay.Address(netip.MustParseAddr("10.4.8.12"), "etcd")}
		h.start()
		defer h.stop()
		settle(2 * time.Second)
		if !strings.Contains(h.env(), "FLANNEL_SUBNET=10.4.10.1/24") {
			t.Errorf("it has leased\n%s", h.env())
		}
		h.needs.is("10.4.10.5")
		settle(2 * time.Second)
		if !strings.Contains(h.env(), "FLANNEL_SUBNET=10.4.10.1/24") {
			t.Errorf("it has moved to\n%s", h.env())
		}
		h.says("this host's own subnet 10.4.10.0/24 overlaps 10.4.10.5 (etcd)")
		other := newHost(t, store, 22)
		other.needs.all = h.needs.all
		other.start()
		defer other.stop()
		settle(2 * time.Second)
		other.expectReason("no lease: every subnet of the config is leased; widen SubnetMin and SubnetMax, or delete the leases of hosts that are gone: " +
			"those that overlap [10.4.8.12/32 10.4.10.5/32 10.4.7.0/24] are not leased, as this host needs that")
	})
}

// TestSetAside has a network within the hosts' own, which is larger: it works.
func TestSetAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", `{"Network": "10.4.128.0/17", "Backend": {"Type": "host-gw"}}`, 0)
		store.Set("subnets/10.4.222.0-24", `{"PublicIP":"10.4.7.22","BackendType":"host-gw"}`, 0)
		h := newHost(t, store, 21)
		h.kernel = kerneltest.New("ens33", 1500, "10.4.7.21/16")
		h.start()
		defer h.stop()
		settle(2 * time.Second)
		h.shows(`ip route add 10.4.222.0/24 via 10.4.7.22 dev ens33 proto 77`)
		h.expectReason("")
	})
}

// TestPublicIPInAnothersSubnet: where the network and the hosts' addresses are
// apart, a lease with a container's address takes nobody's route away.
func TestPublicIPInAnothersSubnet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", hostGW, 0)
		store.Set("subnets/172.7.22.0-24", `{"PublicIP":"10.4.7.22","BackendType":"host-gw"}`, 0)
		h := newHost(t, store, 21).start()
		defer h.stop()
		settle(time.Second)
		store.Set("subnets/172.7.23.0-24", `{"PublicIP":"172.7.22.5","BackendType":"host-gw"}`, 0)
		settle(time.Second)
		h.shows(`ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77`)
		h.says(`ignoring the lease "subnets/172.7.23.0-24": it has the public IP 172.7.22.5, which lies in the subnet 172.7.22.0/24 of another host`)
	})
}

// TestLostAfterOurRoute: etcd is behind something that only fails once a route is
// there, which no table tells.
func TestLostAfterOurRoute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", over, 0)
		h := newHost(t, store, 21)
		h.own = netip.MustParsePrefix("10.4.21.0/24")
		h.start()
		defer h.stop()
		settle(time.Minute)
		store.Set("subnets/10.4.22.0-24", `{"PublicIP":"10.4.7.22","BackendType":"host-gw"}`, 0)
		settle(time.Minute) // this one is proven
		const bad = `ip route add 10.4.99.0/24 via 10.4.7.23 dev ens33 proto 77`
		store.Set("subnets/10.4.99.0-24", `{"PublicIP":"10.4.7.23","BackendType":"host-gw"}`, 0)
		away := 0
		for range 600 {
			settle(time.Second)
			there := strings.Contains(h.render(), bad)
			h.client.Partition(there)
			if there {
				away++
			}
			h.contains(goodRoute)
		}
		if away == 0 || away > 30 {
			t.Errorf("etcd was away for %d s of ten minutes", away)
		}
		h.says("took back the route to 10.4.99.0/24, as etcd was lost right after it came")
		// The lease goes, and so does the complaint.
		store.Remove("subnets/10.4.99.0-24")
		settle(20 * time.Minute)
		if s := h.ask(); len(s.Conditions) != 1 {
			t.Errorf("%v", s.Conditions)
		}
	})
}
