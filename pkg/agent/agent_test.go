package agent_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"flanneld/pkg/agent"
	"flanneld/pkg/backend"
	"flanneld/pkg/backend/hostgw"
	"flanneld/pkg/backend/vxlan"
	"flanneld/pkg/condition"
	"flanneld/pkg/extif"
	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
	"flanneld/pkg/kernel/kerneltest"
	"flanneld/pkg/status"
	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/subnettest"
	"flanneld/pkg/wgdevice"
)

const (
	hostGW = `{"Network": "172.7.0.0/16", "Backend": {"Type": "host-gw"}}`
	vxLAN  = `{"Network": "172.7.0.0/16", "Backend": {"Type": "VxLAN"}}`
	direct = `{"Network": "172.7.0.0/16", "Backend": {"Type": "VxLAN","Directrouting": true}}`
)

// host is a whole daemon but for etcd and Linux, which are in memory. Its
// kernel may be looked at and changed from outside through with.
type host struct {
	t       testing.TB
	ip      netip.Addr
	own     netip.Prefix // the subnet file's at start
	own6    netip.Prefix // the same, of IPv6
	store   *subnettest.Store
	client  *subnettest.Client
	file    string
	changes *changes
	ready   chan subnet.Lease
	edits   fileEdits
	needs   etcdAt
	reach   netip.Addr // --iface-can-reach
	public  netip.Addr // --public-ip
	former  subnet.Env

	backends map[string]backend.Factory
	news     chan struct{} // that something was written to the kernel or the firewall; nil: nobody hears
	resumed  bool          // its kernel holds what an earlier run wrote
	agent    *agent.Agent
	wrong    *condition.Set
	history  status.History // what it has noted
	told     time.Time      // when changed was called last
	stop     func()

	mu     sync.Mutex
	kernel *kerneltest.Kernel
	peers  []rules.Peer // that the firewall lets in
	rules  map[inet.Family]ruled
	looks  []inet.Family // the families whose changes the agent hears of
	placed chan struct{} // what SetRules returns
	slow   time.Duration // that a pass takes where this host works
	stays  string        // a config that this host goes by, whatever the store's; "": by that
	shown  subnet.View   // where there is a lag
	key    wgdevice.Secret
	keyErr error // that reading it ends in

	lag      time.Duration // after which the host hears of what is in the store
	late     chan struct{}
	keyEdits fileEdits

	silent       atomic.Bool  // the kernel does not say who is on the link
	looked       atomic.Int64 // how often the agent has asked for the next
	peersChanged atomic.Bool  // somebody has changed a device's peers
}

func (h *host) tell() {
	select {
	case h.news <- struct{}{}:
	default:
	}
}

// ruled is what the firewall of a family is made for.
type ruled struct {
	network, own netip.Prefix
	peers        []rules.Peer
}

func (h *host) with(f func(k *kerneltest.Kernel)) {
	h.mu.Lock()
	f(h.kernel)
	h.mu.Unlock()
	h.changes.signal(true)
}

func (h *host) Look(families ...inet.Family) []inet.Family {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.looks = h.kernel.Look(families...)
	return h.looks
}

// The agent's view of the kernel: every call under the lock.
func (h *host) Links() ([]kernel.Link, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.kernel.Links()
}

func (h *host) Routes() ([]kernel.FoundRoute, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.kernel.Routes()
}

func (h *host) Nexthops() ([]kernel.FoundNexthop, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.kernel.Nexthops()
}

func (h *host) Entries(l kernel.Link) (kernel.Entries, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.kernel.Entries(l)
}

func (h *host) Do(ops ...kernel.Op) []error {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := len(h.kernel.Ops)
	errs := h.kernel.Do(ops...)
	if len(h.kernel.Ops) > before {
		h.tell()
		h.changes.signal(false)
	}
	return errs
}

func (h *host) Direct(ips []netip.Addr, dev string) (direct []bool, errs []error) {
	for _, ip := range ips {
		is, err := h.direct(ip, dev)
		direct, errs = append(direct, is), append(errs, err)
	}
	return direct, errs
}

func (h *host) direct(ip netip.Addr, dev string) (bool, error) {
	if h.silent.Load() {
		return false, errors.New("no buffer space available")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	links, _ := h.kernel.Links()
	return slices.ContainsFunc(links, func(l kernel.Link) bool {
		return l.Name == dev && slices.ContainsFunc(l.Addrs, func(a kernel.Addr) bool { return a.Contains(ip) })
	}), nil
}

func (h *host) PeersChanged() (bool, error) {
	h.looked.Add(1)
	return h.peersChanged.Swap(false), nil
}

func (h *host) DefaultDev(inet.Family) (string, error) {
	routes, err := h.Routes()
	for _, r := range routes {
		if r.Dst.Bits() == 0 {
			return r.Dev, err
		}
	}
	return "ens33", err
}

func (h *host) Lookup(ip netip.Addr) (via netip.Addr, dev string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	links, _ := h.kernel.Links()
	for _, l := range links {
		if slices.ContainsFunc(l.Addrs, func(a kernel.Addr) bool { return a.Contains(ip) }) {
			return via, l.Name, nil
		}
	}
	return via, "", syscall.ENETUNREACH
}

type changes struct {
	slot    chan struct{}
	mu      sync.Mutex
	routing uint64
}

func (c *changes) signal(routing bool) {
	if routing {
		c.mu.Lock()
		c.routing++
		c.mu.Unlock()
	}
	select {
	case c.slot <- struct{}{}:
	default:
	}
}

func (c *changes) Changed() <-chan struct{} { return c.slot }
func (c *changes) Filter(_, _ []string)     {}
func (c *changes) Routing() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.routing
}

// newHost is a host at 10.4.7.n with 172.7.n.0/24 in its subnet file.
func newHost(t testing.TB, store *subnettest.Store, n int) *host {
	h := &host{
		t: t, ip: netip.MustParseAddr(fmt.Sprintf("10.4.7.%d", n)), own: netip.MustParsePrefix(fmt.Sprintf("172.7.%d.0/24", n)),
		store: store, client: store.Client(), file: filepath.Join(t.TempDir(), "subnet.env"),
	}
	h.kernel = kerneltest.New("ens33", 1500, h.ip.String()+"/24")
	h.backends = map[string]backend.Factory{hostgw.Type: hostgw.New, vxlan.Type: vxlan.New}
	h.key = wgdevice.Secret{1: byte(n)} // of the first byte not all bits count
	return h
}

func (h *host) privateKey() (wgdevice.Secret, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.key, h.keyErr
}

func (h *host) start() *host {
	h.changes = &changes{slot: make(chan struct{}, 1)}
	h.needs.changed = make(chan struct{}, 1)
	h.ready = make(chan subnet.Lease, 1)
	h.edits = make(fileEdits, 1)
	h.rules = map[inet.Family]ruled{}
	h.keyEdits, h.late = make(fileEdits, 1), make(chan struct{}, 1)
	wrong := &condition.Set{Note: h.history.Note}
	h.wrong = wrong
	manager := subnet.NewManager(h.client, subnet.Options{RenewMargin: time.Hour, Previous: subnet.SubnetsOf(h.own, h.own6), Resumed: h.resumed, Conditions: wrong})
	a := agent.New(agent.Options{
		Conditions: wrong,
		Leases:     lagging{manager, h}, Kernel: h, Changes: h.changes, Needs: &h.needs,
		Backends:   h.backends,
		PrivateKey: h.privateKey, KeyChanges: h.keyEdits,
		External:   extif.Options{CanReach: h.reach, PublicIP: h.public},
		SubnetFile: h.file, Former: h.former, FileChanges: h.edits,
		Ready: func(l subnet.Lease) { h.ready <- l }, Note: h.history.Note,
		SetRules: func(c subnet.Config, own netip.Prefix, peers []rules.Peer) <-chan struct{} {
			time.Sleep(h.slow)
			h.mu.Lock()
			defer h.mu.Unlock()
			h.peers = peers
			h.tell()
			h.rules[inet.Of(own.Addr())] = ruled{c.Network, own, peers}
			return h.placed
		},
		UnsetRules: func(f inet.Family) {
			h.mu.Lock()
			defer h.mu.Unlock()
			delete(h.rules, f)
		},
	})
	h.agent = a
	ctx, cancel := context.WithCancel(context.Background())
	var tasks sync.WaitGroup
	tasks.Go(func() { _ = manager.Run(ctx) })
	tasks.Go(func() { _ = a.Run(ctx) })
	if h.lag > 0 {
		tasks.Go(func() { lagging{manager, h}.follow(ctx.Done()) })
	}
	h.stop = func() { cancel(); tasks.Wait() }
	return h
}

// shows compares the kernel's state, sorted commands, one a line.
func (h *host) shows(want string) {
	h.t.Helper()
	h.mu.Lock()
	got := h.kernel.String()
	h.mu.Unlock()
	want = strings.ReplaceAll(strings.TrimSpace(want), "\t", "")
	if got != want {
		h.t.Errorf("kernel of %v:\n%s\nwant:\n%s", h.ip, got, want)
	}
}

func (h *host) render() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.kernel.String()
}

func (h *host) contains(line string) {
	h.t.Helper()
	if got := h.render(); !strings.Contains("\n"+got+"\n", "\n"+line+"\n") {
		h.t.Errorf("kernel of %v:\n%s\nlacks %s", h.ip, got, line)
	}
}

func (h *host) env() string {
	content, _ := os.ReadFile(h.file)
	return string(content)
}

// followed is ample for all hosts to follow a change of the config key.
const followed = 6 * time.Second

func settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestHostGW(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", hostGW, 0)
		h21, h22 := newHost(t, store, 21).start(), newHost(t, store, 22).start()
		defer h21.stop()
		settle(time.Second)
		select {
		case l := <-h21.ready:
			if l.Subnet != h21.own {
				t.Errorf("ready with %v", l.Subnet)
			}
		default:
			t.Fatal("not ready within a second")
		}
		h21.shows(`ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77`)
		h22.shows(`ip route add 172.7.21.0/24 via 10.4.7.21 dev ens33 proto 77`)
		if want := "FLANNEL_NETWORK=172.7.0.0/16\nFLANNEL_SUBNET=172.7.21.1/24\nFLANNEL_MTU=1500\nFLANNEL_IPMASQ=false\n"; h21.env() != want {
			t.Errorf("subnet file:\n%s", h21.env())
		}

		// Stopped, a host keeps its routes; its lease runs on, and so do its
		// peers' routes, until it ends.
		h22.stop()
		h22.shows(`ip route add 172.7.21.0/24 via 10.4.7.21 dev ens33 proto 77`)
		h21.shows(`ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77`)
		store.Remove("subnets/172.7.22.0-24")
		settle(6 * time.Second)
		h21.shows(``)
	})
}

func TestConfigIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		h := newHost(t, store, 21).start()
		defer h.stop()
		for _, bad := range []string{"", "{", `{"Network":"172.7.0.0/16"}`, `{"Network":"172.7.0.0/16","Backend":{"Type":"udp"}}`, `{"Network":"nonsense","Backend":{"Type":"host-gw"}}`,
			`{"Network":"172.7.0.0/16","Backend":{"Type":"vxlan","VNI":-1}}`} {
			if bad != "" {
				store.Set("config", bad, 0)
			}
			settle(time.Minute)
			if n := h.client.Calls("Put"); n != 0 || h.env() != "" {
				t.Fatalf("config %q: %d writes to the store, subnet file %q", bad, n, h.env())
			}
		}
		store.Set("config", hostGW, 0)
		settle(time.Second)
		if len(h.ready) != 1 {
			t.Fatal("not ready after the config was put right")
		}
		// A working host is not moved by a config that is wrong or gone.
		store.Set("config", "{", 0)
		settle(time.Minute)
		store.Remove("config")
		settle(time.Minute)
		store.Set("subnets/172.7.22.0-24", `{"PublicIP":"10.4.7.22","BackendType":"host-gw"}`, 0)
		settle(time.Second)
		h.shows(`ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77`)
	})
}

func TestSubnetFileIsWrittenOnceItCanBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", hostGW, 0)
		h := newHost(t, store, 21)
		folder := filepath.Dir(h.file)
		if err := os.Remove(folder); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(folder, nil, 0o644); err != nil { // a file where the folder should be
			t.Fatal(err)
		}
		h.start()
		defer h.stop()
		settle(time.Second)
		if len(h.ready) != 0 {
			t.Error("ready without a subnet file")
		}
		if err := os.Remove(folder); err != nil {
			t.Fatal(err)
		}
		settle(2 * time.Minute)
		if len(h.ready) != 1 || h.env() == "" {
			t.Errorf("ready: %d, subnet file %q", len(h.ready), h.env())
		}
	})
}

func TestRepair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", hostGW, 0)
		store.Set("subnets/172.7.22.0-24", `{"PublicIP":"10.4.7.22","BackendType":"host-gw"}`, 0)
		h := newHost(t, store, 21).start()
		defer h.stop()
		settle(time.Second)
		const route = `ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77`
		for name, fault := range map[string]func(k *kerneltest.Kernel){
			"route deleted": func(k *kerneltest.Kernel) {
				k.EditRoutes(func([]kernel.FoundRoute) []kernel.FoundRoute { return nil })
			},
			"route edited": func(k *kerneltest.Kernel) {
				k.EditRoutes(func(r []kernel.FoundRoute) []kernel.FoundRoute {
					r[0].Via, r[0].Protocol = netip.MustParseAddr("10.4.7.99"), 3
					return r
				})
			},
		} {
			h.with(fault)
			settle(time.Second)
			t.Log(name)
			h.shows(route)
		}
		h.with(func(k *kerneltest.Kernel) { k.Change("ens33", func(l *kernel.Link) { l.Up = false }) })
		settle(time.Minute)
		h.shows(``)
		h.with(func(k *kerneltest.Kernel) { k.Change("ens33", func(l *kernel.Link) { l.Up = true }) })
		settle(time.Second)
		h.shows(route)

		// The address changes: the lease follows.
		h.with(func(k *kerneltest.Kernel) {
			k.Change("ens33", func(l *kernel.Link) { l.Addrs[0].Prefix = netip.MustParsePrefix("10.4.7.121/24") })
		})
		settle(2 * time.Second)
		if e := find(store, "subnets/172.7.21.0-24"); e.Value != `{"PublicIP":"10.4.7.121","BackendType":"host-gw"}` {
			t.Errorf("lease: %+v", e)
		}
		// A second address does not move it.
		h.with(func(k *kerneltest.Kernel) {
			k.Change("ens33", func(l *kernel.Link) {
				l.Addrs = append([]kernel.Addr{{Prefix: netip.MustParsePrefix("10.4.7.5/24")}}, l.Addrs...)
			})
		})
		settle(2 * time.Second)
		if e := find(store, "subnets/172.7.21.0-24"); e.Value != `{"PublicIP":"10.4.7.121","BackendType":"host-gw"}` {
			t.Errorf("lease after another address came: %+v", e)
		}
	})
}

func find(s *subnettest.Store, key string) subnet.Entry {
	for _, e := range s.Entries() {
		if e.Key == key {
			return e
		}
	}
	return subnet.Entry{}
}

// A program that keeps deleting our route is answered ever more rarely, and a
// lease that changes meanwhile is not kept waiting.
func TestFight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", hostGW, 0)
		store.Set("subnets/172.7.22.0-24", `{"PublicIP":"10.4.7.22","BackendType":"host-gw"}`, 0)
		h := newHost(t, store, 21).start()
		defer h.stop()
		settle(time.Second)
		writes := func() (n int) {
			h.mu.Lock()
			defer h.mu.Unlock()
			return len(h.kernel.Ops)
		}
		before := writes()
		for range 6000 { // ten minutes
			h.with(func(k *kerneltest.Kernel) {
				k.EditRoutes(func([]kernel.FoundRoute) []kernel.FoundRoute { return nil })
			})
			settle(100 * time.Millisecond)
		}
		if n := writes() - before; n < 31 || n > 60 {
			t.Errorf("%d writes in ten minutes of fight", n)
		}
		store.Set("subnets/172.7.23.0-24", `{"PublicIP":"10.4.7.23","BackendType":"host-gw"}`, 0)
		settle(time.Second)
		h.contains(`ip route add 172.7.23.0/24 via 10.4.7.23 dev ens33 proto 77`)
		settle(2 * time.Minute) // peace
		h.with(func(k *kerneltest.Kernel) {
			k.EditRoutes(func([]kernel.FoundRoute) []kernel.FoundRoute { return nil })
		})
		settle(time.Second)
		h.shows(`ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77
			ip route add 172.7.23.0/24 via 10.4.7.23 dev ens33 proto 77`)
	})
}
