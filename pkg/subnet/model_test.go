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
				m.backups = append(m.backups, m.store.Backup())
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

	back   int                 // which backup, from the latest on
	as     subnettest.Identity // of the store that is restored
	beyond int                 // how many indexes it has gone on beyond where the store was, when a host looks
	others []int               // what others write until then
}

var modelActions = []string{
	"partition", "heal", "restart", "restart without subnet file", "wipe", "delete its lease", "delete all leases",
	"overrun the history", "a day passes", "lose replies", "refuse calls", "its member hangs", "move", "move", "restart",
	"restart the store", "restore a backup", "restore a backup", "restore a backup", "restore a backup, and imitate what is lost",
	"lose replies, and restart the store", "another host comes", "another host comes", "another host goes",
	"reserve for it what it was denied", "release what it was denied", "reserve its subnet for a host that is gone",
}

func drawStep(hosts int) func(*rapid.T) modelStep {
	return func(rt *rapid.T) modelStep {
		return modelStep{
			action: rapid.SampledFrom(modelActions).Draw(rt, "action"), host: rapid.IntRange(0, hosts-1).Draw(rt, "host"),
			back:   rapid.IntRange(0, 4).Draw(rt, "back"),
			as:     rapid.SampledFrom([]subnettest.Identity{subnettest.NewCluster, subnettest.SameCluster, subnettest.LaterTerm}).Draw(rt, "as"),
			beyond: rapid.SampledFrom([]int{-1000, -1, 0, 0, 0, 1, 3}).Draw(rt, "beyond"),
			others: rapid.SliceOfN(rapid.IntRange(0, 63), 1, 4).Draw(rt, "others"),
		}
	}
}

type model struct {
	t       *testing.T
	store   *subnettest.Store
	config  subnet.Config
	hosts   []*modelHost
	backups []subnettest.Backup
	drawn   int // MACs
	moved   int // hosts, to other addresses
	gone    int // hosts for which there are reservations
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
	o := func(o *subnet.Options) { o.Previous, o.Resumed = subnet.SubnetsOf(h.file), h.restarts > 0 }
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
			m.store.Set(subnet.Key(own), m.foreign().Marshal(), 0)
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
	case "restart the store":
		m.store.Restart()
	case "lose replies, and restart the store":
		h.mu.Lock()
		h.faults, h.fault = 3, subnettest.Lost
		h.mu.Unlock()
		m.store.Restart()
	case "another host comes":
		m.store.Set(m.key(s.others[0]), m.foreign().Marshal(), subnet.LeaseTTL)
	case "another host goes":
		for _, e := range m.store.Entries() {
			if a, err := subnet.ParseAttrs(e.Value); err == nil && foreign.Contains(a.PublicIP) {
				m.store.Remove(e.Key)
				return
			}
		}
	case "restore a backup", "restore a backup, and imitate what is lost":
		b := m.backups[max(0, len(m.backups)-1-s.back)]
		m.store.Restore(b, s.as, m.writes(s, m.store.Since(b.Index())))
	}
}

// writes are what others write to a store that was restored. Those who imitate what was lost write it once more, but for
// one change.
func (m *model) writes(s modelStep, lost []subnet.Event) (all []subnet.Event) {
	n := len(lost) + s.beyond
	if strings.Contains(s.action, "imitate") && len(lost) > 1 {
		all = slices.Clone(lost)
		all[s.others[0]%(len(lost)-1)] = m.write(s.others[0])
	}
	for i := range max(0, n-len(all)) {
		all = append(all, m.write(s.others[i%len(s.others)]))
	}
	return all
}

func (m *model) write(kind int) subnet.Event {
	e := subnet.Event{Entry: subnet.Entry{Key: m.key(kind), Value: m.foreign().Marshal()}}
	switch kind / 16 {
	case 0:
		e.TTL = subnet.LeaseTTL
	case 1: // a reservation
	case 2:
		e.Key, e.Value = "other", ""
	default:
		e.TTL, e.Value = subnet.LeaseTTL, "garbage"
	}
	return e
}

// foreign is where hosts are that take no part.
var foreign = netip.MustParsePrefix("10.4.9.0/24")

func (m *model) foreign() subnet.Attrs {
	m.gone++
	return attrs(fmt.Sprintf("10.4.9.%d", 1+m.gone%250))
}

// key is one of a subnet that hosts take up to the end of the network, if at all.
func (m *model) key(n int) string { return fmt.Sprintf("subnets/10.1.0.%d-28", 16*(n%16)) }

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
		known := func(l subnet.Lease) bool { return l.Subnets() == p && l.Attrs.Marshal() == strings.TrimSpace(e.Value) }
		if _, bad := subnet.ParseAttrs(e.Value); bad != nil {
			if err == nil && v.Malformed[e.Key] == "" {
				return "says that it is current, and does not know the malformed " + e.Key
			}
			continue
		}
		if err == nil && !slices.ContainsFunc(v.Leases, known) {
			return "says that it is current, and does not know " + e.Key
		}
	}
	for _, l := range v.Leases {
		if m.value(l.Subnet) == "" && !v.Degraded {
			return "says that it is current, and knows a lease that is gone: " + l.Key
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
			all = append(all, p.First())
		}
	}
	return all
}

func (m *model) stop() {
	for _, h := range m.hosts {
		h.stop()
	}
}
