package subnet_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/subnettest"
)

// The model: hosts that share a store on its worst days. After every step the
// hosts that the store can reach must agree with it and with each other within
// seconds, and no host may ever have taken a live lease from another.
func TestModel(t *testing.T) {
	config := mustConfig(`{"Network":"10.1.0.0/24","SubnetLen":28}`)
	rapid.Check(t, func(rt *rapid.T) {
		hosts := rapid.IntRange(2, 5).Draw(rt, "hosts")
		clone := rapid.Bool().Draw(rt, "the last host is a clone of the first")
		steps := rapid.SliceOfN(rapid.Custom(drawStep(hosts)), 1, 15).Draw(rt, "steps")
		var violation string
		synctest.Test(t, func(t *testing.T) {
			m := &model{t: t, store: subnettest.NewStore(), config: config}
			for i := range hosts {
				m.add(i, clone && i == hosts-1)
			}
			defer m.stop()
			m.settle()
			for n, s := range steps {
				m.do(s)
				m.settle()
				if violation = m.violation(); violation != "" {
					violation = fmt.Sprintf("after step %d, %v: %s; store: %v", n, s, violation, m.store.Entries())
					return
				}
			}
			m.heal()
			if violation = m.violation(); violation == "" {
				violation = m.homeless()
			}
		})
		if violation != "" {
			rt.Fatal(violation)
		}
	})
}

type modelStep struct {
	action string
	host   int
}

var modelActions = []string{
	"partition", "heal", "restart", "restart without subnet file", "wipe", "delete its lease", "delete all leases",
	"overrun the history", "a day passes", "lose replies", "refuse calls", "restore a backup", "backup",
	"its member hangs", "move", "move", "restart",
	"reserve for it what it was denied", "release what it was denied", "reserve its subnet for a host that is gone",
}

func drawStep(hosts int) func(*rapid.T) modelStep {
	return func(rt *rapid.T) modelStep {
		return modelStep{rapid.SampledFrom(modelActions).Draw(rt, "action"), rapid.IntRange(0, hosts-1).Draw(rt, "host")}
	}
}

type model struct {
	t      *testing.T
	store  *subnettest.Store
	config subnet.Config
	hosts  []*modelHost
	backup []subnet.Entry
	drawn  int // MACs
	moved  int // hosts, to other addresses
	gone   int // hosts for which there are reservations
}

type modelHost struct {
	*host
	attrs    subnet.Attrs
	file     netip.Prefix // what its subnet file says
	down     bool         // partitioned
	mu       sync.Mutex
	faults   int // calls that still fail
	fault    subnettest.Fault
	restarts int
}

func (m *model) add(i int, clone bool) {
	m.drawn++
	h := &modelHost{attrs: vxlanAt(fmt.Sprintf("10.4.7.%d", 21+i), fmt.Sprintf("0a:00:00:00:00:%02x", m.drawn))}
	if clone { // of a running machine, with all that it has
		h.file, h.attrs.BackendData = m.hosts[0].View().Own.Subnet, m.hosts[0].attrs.BackendData
	}
	m.hosts = append(m.hosts, h)
	m.start(h)
}

func (m *model) start(h *modelHost) {
	o := func(o *subnet.Options) { o.Previous, o.Resumed = h.file, h.restarts > 0 }
	h.host = start(m.t, m.store, &subnet.Claim{Config: m.config, Attrs: h.attrs}, o)
	h.restarts++
	h.client.Partition(h.down)
	h.client.Inject(func(string) subnettest.Fault {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.faults == 0 {
			return subnettest.None
		}
		h.faults--
		return h.fault
	})
}

func (m *model) do(s modelStep) {
	h := m.hosts[s.host]
	switch s.action {
	case "partition", "heal":
		h.down = s.action == "partition"
		h.client.Partition(h.down)
	case "restart", "restart without subnet file":
		h.file = h.View().Own.Subnet
		if s.action != "restart" {
			h.file = netip.Prefix{}
		}
		h.stop()
		m.start(h)
	case "move": // to another address; it keeps its device
		h.file = h.View().Own.Subnet
		h.stop()
		m.moved++
		h.attrs.PublicIP = netip.MustParseAddr(fmt.Sprintf("10.4.%d.%d", 6+m.moved%3, 100+m.moved))
		m.start(h)
	case "reserve for it what it was denied", "release what it was denied":
		for key := range h.View().Living {
			m.store.Remove(key)
			if s.action != "release what it was denied" {
				m.store.Set(key, h.attrs.Marshal(), 0)
			}
		}
	case "reserve its subnet for a host that is gone": // it must look for another
		if own := h.View().Own.Subnet; own.IsValid() {
			m.gone++
			m.store.Set(subnet.Key(own), attrs(fmt.Sprintf("10.4.9.%d", 100+m.gone)).Marshal(), 0)
		}
	case "its member hangs":
		h.client.Hang()
	case "wipe":
		m.store.Wipe()
	case "delete its lease":
		m.store.Remove(subnet.Key(h.View().Own.Subnet))
	case "delete all leases":
		for _, e := range m.store.Entries() {
			m.store.Remove(e.Key)
		}
	case "overrun the history":
		for range subnettest.HistoryLength + 1 {
			m.store.Set("other", "", 0)
		}
	case "a day passes":
		time.Sleep(25 * time.Hour)
	case "lose replies", "refuse calls":
		h.mu.Lock()
		h.faults, h.fault = 5, subnettest.Lost
		if s.action == "refuse calls" {
			h.fault = subnettest.Refused
		}
		h.mu.Unlock()
	case "backup":
		m.backup = m.store.Entries()
	case "restore a backup":
		m.store.Wipe()
		for _, e := range m.backup {
			m.store.Set(e.Key, e.Value, e.TTL)
		}
	}
}

// settle gives events the time to arrive.
func (m *model) settle() {
	time.Sleep(15 * time.Second)
	synctest.Wait()
	again := false
	for _, h := range m.hosts {
		if own := h.View().Own; len(h.View().Living) > 0 && !own.Subnet.IsValid() { // as the agent does
			m.drawn++
			h.attrs.BackendData = fmt.Sprintf(`{"VtepMAC":"0a:00:00:00:00:%02x"}`, m.drawn)
			h.Claim(subnet.Claim{Config: m.config, Attrs: h.attrs})
			again = true
		}
	}
	if again {
		m.settle()
	}
}

func (m *model) heal() {
	for _, h := range m.hosts {
		h.down = false
		h.client.Partition(false)
	}
	time.Sleep(subnet.RetainTime + 3*time.Minute)
	m.settle()
}

// violation says what the hosts that see the store disagree about.
func (m *model) violation() string {
	for i, a := range m.hosts {
		if v := m.stale(a); v != "" {
			return fmt.Sprintf("host %d %s", i, v)
		}
		x := a.View().Own
		if a.down || !x.Subnet.IsValid() {
			continue
		}
		if v := m.value(x.Subnet); v != a.attrs.Marshal() {
			return fmt.Sprintf("host %d works with %v, where the store has %q", i, x.Subnet, v)
		}
		for j, b := range m.hosts[:i] {
			if y := b.View().Own; !b.down && y.Subnet.IsValid() && x.Subnet.Overlaps(y.Subnet) {
				return fmt.Sprintf("hosts %d and %d both work with %v", i, j, x.Subnet)
			}
		}
	}
	return ""
}

// stale says how a host deceives itself about what it knows.
func (m *model) stale(h *modelHost) string {
	v := h.View()
	switch {
	case h.down && v.Current:
		return "is cut off, and says that it is current"
	case !h.down && !v.Current:
		return fmt.Sprintf("is not current: all it knows is of %v ago", time.Since(v.Read))
	case h.down:
		return ""
	}
	for _, e := range m.store.Entries() {
		p, err := subnet.ParseKey(e.Key)
		known := func(l subnet.Lease) bool { return l.Subnet == p && l.Attrs.Marshal() == strings.TrimSpace(e.Value) }
		if err == nil && !slices.ContainsFunc(v.Leases, known) {
			return "says that it is current, and does not know " + e.Key
		}
	}
	return ""
}

func (m *model) value(p netip.Prefix) string {
	i := slices.IndexFunc(m.store.Entries(), func(e subnet.Entry) bool { return e.Key == subnet.Key(p) })
	if i < 0 {
		return ""
	}
	return strings.TrimSpace(m.store.Entries()[i].Value)
}

// homeless says which host has no subnet though there is room for all.
func (m *model) homeless() string {
	for i, h := range m.hosts {
		if !h.View().Own.Subnet.IsValid() && len(m.config.Free(m.leased(), 1)) > 0 {
			return fmt.Sprintf("host %d has no subnet", i)
		}
	}
	return ""
}

func (m *model) leased() (all []netip.Prefix) {
	for _, e := range m.store.Entries() {
		if p, err := subnet.ParseKey(e.Key); err == nil {
			all = append(all, p)
		}
	}
	return all
}

func (m *model) stop() {
	for _, h := range m.hosts {
		h.stop()
	}
}
