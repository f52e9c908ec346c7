package kernel_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
	"flanneld/pkg/kernel/kerneltest"
)

// idOf is the id that a pass draws for the route to host 10.4.7.n's subnet, where it is free.
func idOf(n int) uint32 { return kernel.DrawID(subnetOf(n), func(uint32) bool { return false }) }

var idName = regexp.MustCompile(`\{(\d+)([+]?)\}`)

// ids has the ids in the place of their names: {22} is idOf(22), {22+} the one after that.
func ids(text string) string {
	return idName.ReplaceAllStringFunc(text, func(name string) string {
		m := idName.FindStringSubmatch(name)
		n, _ := strconv.Atoi(m[1])
		return fmt.Sprint(int(idOf(n)) + len(m[2]))
	})
}

// sorted has the lines of one kind and verb in a row sorted, as texts has them.
func sorted(text string) string {
	all := lines(text)
	verb := func(line string) string {
		return strings.Join(strings.Fields(strings.TrimPrefix(line, "repair: "))[:3], " ")
	}
	for from := 0; from < len(all); {
		to := from
		for to < len(all) && verb(all[to]) == verb(all[from]) {
			to++
		}
		if !strings.HasPrefix(verb(all[from]), "ip link") {
			slices.Sort(all[from:to])
		}
		from = to
	}
	return strings.Join(all, "\n")
}

// playNexthops plays a script with next hop objects from so many wanted routes on.
func playNexthops(t *testing.T, from int, steps ...step) {
	t.Helper()
	for i := range steps {
		s := &steps[i]
		s.hand, s.ops, s.shows, s.conflicts = ids(s.hand), sorted(ids(s.ops)), ids(s.shows), ids(s.conflicts)
	}
	playFrom(t, from, steps...)
}

const (
	hops22and23 = `ip nexthop add id {22} via 10.4.7.22 dev ens33 proto 77
		ip nexthop add id {23} via 10.4.7.23 dev ens33 proto 77
		`
	routes22and23 = `ip route add 172.7.22.0/24 nhid {22} proto 77
		ip route add 172.7.23.0/24 nhid {23} proto 77
		`
)

func TestNexthops(t *testing.T) {
	both := plain(22, 23)
	for name, steps := range map[string][]step{
		"from nothing, and adopted": {
			{want: both, ops: hops22and23 + routes22and23, shows: hops22and23 + routes22and23},
			{want: both, restart: true},
			{want: plain(23), ops: `ip route del 172.7.22.0/24 nhid {22} proto 77
				ip nexthop del id {22}`},
			{want: kernel.State{}, restart: true, ops: `ip route del 172.7.23.0/24 nhid {23} proto 77
				ip nexthop del id {23}`, shows: "-"},
		},
		"deleted": {
			{want: both, ops: hops22and23 + routes22and23},
			{hand: `ip nexthop del id {22}`, want: both, ops: `repair: ip nexthop add id {22} via 10.4.7.22 dev ens33 proto 77
				repair: ip route add 172.7.22.0/24 nhid {22} proto 77`},
			{hand: `ip route del 172.7.22.0/24`, want: both, ops: `repair: ip route add 172.7.22.0/24 nhid {22} proto 77`},
		},
		"edited": {
			{want: both, ops: hops22and23 + routes22and23},
			{hand: `ip nexthop replace id {22} via 10.4.7.99 dev ens33`, want: both,
				ops: `repair: ip nexthop replace id {22} via 10.4.7.22 dev ens33 proto 77 (was via 10.4.7.99 dev ens33 proto 0)`},
			{hand: `ip nexthop replace id {22} blackhole`, want: both,
				ops: `repair: ip nexthop replace id {22} via 10.4.7.22 dev ens33 proto 77 (was not a plain one)`},
			{hand: `ip nexthop replace id {22} via 10.4.7.22 dev ens33`, want: both,
				ops: `repair: ip nexthop replace id {22} via 10.4.7.22 dev ens33 proto 77 (was via 10.4.7.22 dev ens33 proto 0)`},
			{hand: `ip nexthop replace id {22} via 10.4.7.99 dev ens33 proto 77`, want: both,
				ops: `repair: ip nexthop replace id {22} via 10.4.7.22 dev ens33 proto 77 (was via 10.4.7.99 dev ens33 proto 77)`},
			{hand: `ip nexthop replace id {22} via 10.4.7.99 dev ens33`, want: plain(23),
				ops: `ip route del 172.7.22.0/24 nhid {22} proto 77
					ip nexthop del id {22}`},
		},
		"edited while nobody looked": {
			{want: both, ops: hops22and23 + routes22and23},
			{restart: true, hand: `ip nexthop replace id {22} via 10.4.7.99 dev ens33`, want: both,
				ops: `ip nexthop add id {22+} via 10.4.7.22 dev ens33 proto 77
					ip route replace 172.7.22.0/24 nhid {22+} proto 77 (was 172.7.22.0/24 nhid {22} proto 77)`},
		},
		"made a stranger's": {
			{want: both, ops: hops22and23 + routes22and23},
			{hand: `ip nexthop del id {22}
				ip nexthop add id {22} via 10.4.7.99 dev ens33`, want: both,
				ops: `ip nexthop add id {22+} via 10.4.7.22 dev ens33 proto 77
					repair: ip route add 172.7.22.0/24 nhid {22+} proto 77`},
			{want: kernel.State{}, ops: `ip route del 172.7.22.0/24 nhid {22+} proto 77
				ip route del 172.7.23.0/24 nhid {23} proto 77
				ip nexthop del id {22+}
				ip nexthop del id {23}`, shows: `ip nexthop add id {22} via 10.4.7.99 dev ens33 proto 0`},
		},
		"routes edited": {
			{want: both, ops: hops22and23 + routes22and23},
			{hand: `ip route replace 172.7.22.0/24 via 10.4.7.99 dev ens33`, want: both,
				ops: `repair: ip route replace 172.7.22.0/24 nhid {22} proto 77 (was 172.7.22.0/24 via 10.4.7.99 dev ens33 proto 3)`},
			{hand: `ip route replace 172.7.22.0/24 nhid {23} proto 77`, want: both,
				ops: `repair: ip route replace 172.7.22.0/24 nhid {22} proto 77 (was 172.7.22.0/24 nhid {23} proto 77)`},
			{hand: `ip route replace 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77`, want: both,
				ops: `ip nexthop del id {22}`}, // right in this form, too
		},
		"shared": {
			{want: sharing(22, 23), ops: `ip nexthop add id {22} via 10.4.7.9 dev ens33 proto 77
				` + `ip route add 172.7.22.0/24 nhid {22} proto 77
				ip route add 172.7.23.0/24 nhid {22} proto 77`},
			{want: sharing(23), ops: `ip route del 172.7.22.0/24 nhid {22} proto 77`},
			{want: sharing(23), restart: true},
			{want: sharing(24), ops: `ip route add 172.7.24.0/24 nhid {22} proto 77
				ip route del 172.7.23.0/24 nhid {22} proto 77`},
		},
		"another gateway": {
			{want: plain(22), ops: `ip nexthop add id {22} via 10.4.7.22 dev ens33 proto 77
				ip route add 172.7.22.0/24 nhid {22} proto 77`},
			{want: sharing(22), ops: `ip nexthop add id {22+} via 10.4.7.9 dev ens33 proto 77
				ip route replace 172.7.22.0/24 nhid {22+} proto 77 (was 172.7.22.0/24 nhid {22} proto 77)
				ip nexthop del id {22}`},
		},
		"others'": {
			{hand: `ip nexthop add id {22} via 10.4.7.99 dev ens33
				ip nexthop add id 7 via 10.4.7.22 dev ens33 proto 77
				ip route add 172.7.90.0/24 nhid 7
				ip nexthop add id {23} via 10.4.7.23 dev ens33 proto 77
				ip route add 192.168.23.0/24 nhid {23} proto 77`, want: of172(both),
				ops: `ip nexthop add id {22+} via 10.4.7.22 dev ens33 proto 77
					ip nexthop add id {23+} via 10.4.7.23 dev ens33 proto 77
					ip route add 172.7.22.0/24 nhid {22+} proto 77
					ip route add 172.7.23.0/24 nhid {23+} proto 77`},
			{want: of172(kernel.State{}), restart: true, ops: `ip route del 172.7.22.0/24 nhid {22+} proto 77
				ip route del 172.7.23.0/24 nhid {23+} proto 77
				ip nexthop del id {22+}
				ip nexthop del id {23+}`,
				shows: `ip nexthop add id {22} via 10.4.7.99 dev ens33 proto 0
				ip nexthop add id 7 via 10.4.7.22 dev ens33 proto 77
				ip route add 172.7.90.0/24 nhid 7 proto 3
				ip nexthop add id {23} via 10.4.7.23 dev ens33 proto 77
				ip route add 192.168.23.0/24 nhid {23} proto 77`},
		},
		"another daemon's routes over ours": {
			{want: of172(plain(22)), ops: `ip nexthop add id {22} via 10.4.7.22 dev ens33 proto 77
				ip route add 172.7.22.0/24 nhid {22} proto 77`},
			{hand: `ip route add 192.168.23.0/24 nhid {22} proto 77`, want: of172(kernel.State{}),
				ops: `ip route del 172.7.22.0/24 nhid {22} proto 77`},
		},
		"a group of somebody's over ours": { // which the kernel would take along, with its routes
			{want: both, ops: hops22and23 + routes22and23},
			{hand: `ip nexthop add id 5 group {22}/{23}
				ip route add 172.9.0.0/16 nhid 5`, want: plain(23), ops: `ip route del 172.7.22.0/24 nhid {22} proto 77`},
			{want: plain(23), restart: true},
			{hand: `ip route del 172.9.0.0/16
				ip nexthop del id 5`, want: plain(22, 23), ops: `ip route add 172.7.22.0/24 nhid {22} proto 77`},
			{hand: `ip nexthop add id 5 group {22}`, want: kernel.State{}, ops: `ip route del 172.7.22.0/24 nhid {22} proto 77
				ip route del 172.7.23.0/24 nhid {23} proto 77
				ip nexthop del id {23}`},
			{hand: `ip nexthop del id 5`, want: kernel.State{}, ops: `ip nexthop del id {22}`},
		},
		"an administrator's route by a next hop object": {
			{hand: `ip nexthop add id 5 via 10.4.7.22 dev ens33
				ip route add 172.7.22.0/24 nhid 5`, want: both,
				ops: `ip nexthop add id {23} via 10.4.7.23 dev ens33 proto 77
					ip route add 172.7.23.0/24 nhid {23} proto 77`,
				conflicts: `172.7.22.0/24 nhid 5 proto 3`},
		},
		"a route of ours by a foreign object": {
			{hand: `ip nexthop add id 5 via 10.4.7.22 dev ens33 proto 77
				ip route add 172.7.22.0/24 nhid 5 proto 77`, want: plain(22),
				ops: `ip nexthop add id {22} via 10.4.7.22 dev ens33 proto 77
					ip route replace 172.7.22.0/24 nhid {22} proto 77 (was 172.7.22.0/24 nhid 5 proto 77)`},
		},
		"the tunnel": {
			{want: tunnel(22), ops: newDevice + `
				bridge fdb replace 0a:39:13:5c:8e:16 dev flannel.1 dst 10.4.7.22 self permanent
				ip neigh replace 172.7.22.0 lladdr 0a:39:13:5c:8e:16 dev flannel.1 nud permanent
				ip nexthop add id {22} via 172.7.22.0 dev flannel.1 onlink proto 77
				ip route add 172.7.22.0/24 nhid {22} proto 77`},
			{want: tunnel(22), restart: true},
			{want: tunnel(), restart: true, ops: `ip route del 172.7.22.0/24 nhid {22} proto 77
				ip nexthop del id {22}
				ip neigh del 172.7.22.0 lladdr 0a:39:13:5c:8e:16 dev flannel.1 nud permanent
				bridge fdb del 0a:39:13:5c:8e:16 dev flannel.1 dst 10.4.7.22 self permanent`},
		},
		"harmful": {
			{want: both, ops: hops22and23 + routes22and23},
			{want: with(partial(plain(23)), harmful22), restart: true, ops: `ip route del 172.7.22.0/24 nhid {22} proto 77`},
			{want: with(plain(23), harmful22), ops: `ip nexthop del id {22}`},
		},
		"partial": {
			{want: both, ops: hops22and23 + routes22and23},
			{want: partial(plain(22)), restart: true},
			{want: plain(22), ops: `ip route del 172.7.23.0/24 nhid {23} proto 77
				ip nexthop del id {23}`},
		},
		"the interface was down": {
			{want: plain(22), ops: `ip nexthop add id {22} via 10.4.7.22 dev ens33 proto 77
				ip route add 172.7.22.0/24 nhid {22} proto 77`},
			{hand: `ip link set ens33 down
				ip link set ens33 up`, want: plain(22), ops: `repair: ip nexthop add id {22} via 10.4.7.22 dev ens33 proto 77
				repair: ip route add 172.7.22.0/24 nhid {22} proto 77`},
		},
		"no carrier": { // the kernel takes no next hop objects, and keeps plain routes
			{want: plain(22), ops: `ip nexthop add id {22} via 10.4.7.22 dev ens33 proto 77
				ip route add 172.7.22.0/24 nhid {22} proto 77`},
			{hand: `ip link set wire down`, want: plain(22), ops: `repair: ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77`},
			{hand: `ip link set wire up`, want: plain(22, 23), ops: `ip nexthop add id {23} via 10.4.7.23 dev ens33 proto 77
				ip route add 172.7.23.0/24 nhid {23} proto 77`},
		},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) { playNexthops(t, 0, steps...) })
	}
}

// Nothing is converted, whichever way the number of routes crosses the threshold.
func TestNexthopThreshold(t *testing.T) {
	playNexthops(t, 3,
		step{want: plain(22, 23), ops: `ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77
			ip route add 172.7.23.0/24 via 10.4.7.23 dev ens33 proto 77`},
		step{want: plain(22, 23, 24), ops: `ip nexthop add id {24} via 10.4.7.24 dev ens33 proto 77
			ip route add 172.7.24.0/24 nhid {24} proto 77`},
		step{want: plain(22, 23, 24), restart: true},
		step{want: plain(23, 24), ops: `ip route del 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77`},
		step{want: plain(23, 24), restart: true},
		step{hand: `ip nexthop del id {24}`, want: plain(23, 24), restart: true,
			ops: `ip route add 172.7.24.0/24 via 10.4.7.24 dev ens33 proto 77`},
		step{want: kernel.State{}, ops: `ip route del 172.7.23.0/24 via 10.4.7.23 dev ens33 proto 77
			ip route del 172.7.24.0/24 via 10.4.7.24 dev ens33 proto 77`},
	)
}

func harmful22(s *kernel.State) {
	s.Harmful = func(dst netip.Prefix) bool { return dst == subnetOf(22) }
}

// sharing has routes to the peers' subnets by one gateway.
func sharing(peers ...int) kernel.State {
	s := plain(peers...)
	for i := range s.Routes {
		s.Routes[i].Via = ipOf(9)
	}
	return s
}

func of172(s kernel.State) kernel.State {
	s.Networks = []netip.Prefix{netip.MustParsePrefix("172.7.0.0/16")}
	return s
}

// Where the kernel names only the object, its own list says where the route leads.
func TestNexthopsWithoutCompatMode(t *testing.T) {
	m := linux(t)
	if err := os.WriteFile("/proc/sys/net/ipv4/nexthop_compat_mode", []byte("0"), 0); err != nil {
		t.Fatal(err)
	}
	s := kernel.NewSyncerFrom(m, 0)
	onePass(t, s, plain(22, 23))
	for _, s := range []*kernel.Syncer{s, kernel.NewSyncerFrom(m, 0), kernel.NewSyncerFrom(m, 100)} {
		if again := onePass(t, s, plain(22, 23)); len(again.Ops) > 0 {
			t.Errorf("another pass writes\n%s", texts(again.Ops))
		}
	}
	m.sh(t, `ip nexthop add id 5 via 10.4.7.254 dev ens33
		ip route add default nhid 5
		ip nexthop add id 6 blackhole
		ip route add 10.9.0.0/16 nhid 6
		ip nexthop add id 7 group 5
		ip route add 10.8.0.0/16 nhid 7`)
	conn := m.Conn.(*kernel.Netlink)
	if dev, err := conn.DefaultDev(inet.IPv4); dev != "ens33" || err != nil {
		t.Errorf("default route by %q, %v", dev, err)
	}
	routes, err := m.Routes()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routes {
		special := r.Dst.Addr() == netip.MustParseAddr("10.9.0.0") || r.Dst.Addr() == netip.MustParseAddr("10.8.0.0") || r.Protocol == 2
		if r.Special != special || !special && (r.Dev != "ens33" || !r.Via.IsValid()) {
			t.Errorf("%v via %v dev %q, special: %v", r, r.Via, r.Dev, r.Special)
		}
	}
	if via, dev, err := conn.Lookup(netip.MustParseAddr("172.7.22.9")); via != ipOf(22) || dev != "ens33" || err != nil {
		t.Errorf("a packet leaves by %v, %s, %v", via, dev, err)
	}
}

// An id that somebody takes between the list and the write leads elsewhere: no route is
// written by it, and the next pass draws another.
func TestNexthopIDTakenMeanwhile(t *testing.T) {
	for kind, make := range map[string]func(testing.TB) machine{"fake": fake, "linux": linux} {
		t.Run(kind, func(t *testing.T) {
			m := make(t)
			theirs := &late{Conn: m.Conn, first: func() { m.sh(t, ids(`ip nexthop add id {22} via 10.4.7.99 dev ens33`)) }}
			s := kernel.NewSyncerFrom(theirs, 0)
			result, err := s.Apply(plain(22, 23))
			if !errors.Is(err, syscall.EEXIST) || len(result.Ops) != 2 {
				t.Errorf("wrote\n%s\nerror: %v", texts(result.Ops), err)
			}
			if now := kerneltest.Render(m); strings.Contains(now, "172.7.22.0") {
				t.Errorf("a route by a stranger's object:\n%s", now)
			}
			compare(t, "next pass", texts(onePass(t, s, plain(22, 23)).Ops), ids(`ip nexthop add id {22+} via 10.4.7.22 dev ens33 proto 77
				ip route add 172.7.22.0/24 nhid {22+} proto 77`))
		})
	}
}

// late has something happen before the first write.
type late struct {
	kernel.Conn
	first func()
}

func (l *late) Do(ops ...kernel.Op) []error {
	if l.first != nil {
		l.first()
		l.first = nil
	}
	return l.Conn.Do(ops...)
}

// A kernel that takes no next hop objects gets plain routes at once, and is not asked
// again; one in which nothing can be written is asked again.
func TestKernelRefusesNexthops(t *testing.T) {
	for _, refusal := range []error{syscall.EOPNOTSUPP, syscall.EINVAL, syscall.ENOMEM} {
		m := fake(t)
		k := m.Conn.(*kerneltest.Kernel)
		asked, broken := 0, false
		k.Fail = func(call string) error {
			switch {
			case strings.HasPrefix(call, "ip nexthop"):
				asked++
				return refusal
			case broken && strings.HasPrefix(call, "ip route add"):
				return syscall.EIO
			}
			return nil
		}
		s := kernel.NewSyncerFrom(m, 0)
		broken = true
		if _, err := s.Apply(plain(22)); err == nil {
			t.Error("no route could be written, and there is no error")
		}
		broken = false
		before := asked
		compare(t, "ops", texts(onePass(t, s, plain(22, 23)).Ops), `ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77
			ip route add 172.7.23.0/24 via 10.4.7.23 dev ens33 proto 77`)
		if asked == before {
			t.Error("after a failure of all writes no next hop object was tried")
		}
		before = asked
		onePass(t, s, plain(22, 23, 24))
		if asked != before {
			t.Error("the kernel was asked again")
		}
	}
}

// A conversation with the kernel that broke off says nothing of what it takes.
func TestLostRepliesAreNoRefusal(t *testing.T) {
	for _, lost := range []error{syscall.ENOBUFS, syscall.EAGAIN} {
		m := fake(t)
		k := m.Conn.(*kerneltest.Kernel)
		k.Fail = func(call string) error {
			if strings.HasPrefix(call, ids("ip nexthop add id {22}")) {
				return fmt.Errorf("talk to the kernel: %w", lost)
			}
			return nil
		}
		s := kernel.NewSyncerFrom(m, 0)
		if _, err := s.Apply(plain(22, 23)); !errors.Is(err, lost) {
			t.Errorf("error: %v", err)
		}
		k.Fail = nil
		compare(t, "next pass", texts(onePass(t, s, plain(22, 23)).Ops), ids(`ip nexthop add id {22} via 10.4.7.22 dev ens33 proto 77
			ip route add 172.7.22.0/24 nhid {22} proto 77`))
	}
}

// A real kernel that refuses has plain routes after the same pass, and whatever objects an
// earlier run left are of no use.
func TestLinuxRefusesNexthops(t *testing.T) {
	m := linux(t)
	onePass(t, kernel.NewSyncerFrom(m, 0), plain(22))
	m.sh(t, ids(`ip nexthop replace id {22} via 10.4.7.99 dev ens33`))
	s := kernel.NewSyncerFrom(refusing{m}, 0)
	onePass(t, s, plain(22, 23))
	compare(t, "routes", output(t, "ip route show proto 77"), `172.7.22.0/24 via 10.4.7.22 dev ens33
		172.7.23.0/24 via 10.4.7.23 dev ens33`)
	if again := onePass(t, s, plain(22, 23)); len(again.Ops) > 0 {
		t.Errorf("another pass writes\n%s", texts(again.Ops))
	}
}

// refusing is a kernel that makes no next hop objects.
type refusing struct{ machine }

func (r refusing) Do(ops ...kernel.Op) []error {
	errs := make([]error, len(ops))
	for i, o := range ops {
		if o.Kind() == "nexthop" && o.Action != kernel.Delete {
			errs[i] = syscall.EOPNOTSUPP
		} else {
			errs[i] = r.Conn.Do(o)[0]
		}
	}
	return errs
}

// What an earlier run left and no route leads to is used, or goes in time: another
// daemon may be about to write its routes.
func TestNexthopOrphans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := fake(t)
		m.sh(t, ids(`ip nexthop add id {77} via 10.4.7.22 dev ens33 proto 77
			ip nexthop add id {78} via 10.4.7.78 dev ens33 proto 77
			ip nexthop add id 5 via 10.4.7.78 dev ens33 proto 77
			ip nexthop add id {79} via 10.4.7.78 dev ens33`))
		s := kernel.NewSyncerFrom(m, 0)
		compare(t, "first", texts(onePass(t, s, plain(22)).Ops), ids(`ip route add 172.7.22.0/24 nhid {77} proto 77`))
		time.Sleep(9 * time.Second)
		compare(t, "soon after", texts(onePass(t, s, plain(22)).Ops), ``)
		time.Sleep(2 * time.Second)
		compare(t, "in a partial pass", texts(onePass(t, s, partial(plain(22))).Ops), ``)
		compare(t, "in time", texts(onePass(t, s, plain(22)).Ops), ids(`ip nexthop del id {78}`))
	})
}

// A next hop object that somebody deletes again and again, or that goes each time the
// carrier does, is repaired ever later, and that alone. Its routes do not wait: they are
// written plain, and stay.
func TestContestedNexthop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := fake(t)
		s := kernel.NewSyncerFrom(m, 0)
		want := plain(22, 23)
		onePass(t, s, want)
		var last kernel.Result
		for range 40 {
			_ = m.run(ids(`ip nexthop del id {22}`))
			last = onePass(t, s, want)
		}
		if len(last.Ops) > 0 || last.Again == 0 {
			t.Errorf("repaired still at once: %s", texts(last.Ops))
		}
		if now := kerneltest.Render(m); !strings.Contains(now, "ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77") {
			t.Errorf("the route waits for its object:\n%s", now)
		}
		compare(t, "contested", strings.Join(last.Objects, "\n"), ids(`ip nexthop add id {22} via 10.4.7.22 dev ens33 proto 77`))
		m.sh(t, ids(`ip nexthop del id {23}`))
		compare(t, "the other", texts(onePass(t, s, want).Ops), ids(`repair: ip nexthop add id {23} via 10.4.7.23 dev ens33 proto 77
			repair: ip route add 172.7.23.0/24 nhid {23} proto 77`))
		time.Sleep(2 * time.Minute)
		compare(t, "in time", texts(onePass(t, s, want).Ops), "")
		m.sh(t, `ip route del 172.7.22.0/24`)
		compare(t, "afterwards", texts(onePass(t, s, want).Ops), ids(`ip nexthop add id {22} via 10.4.7.22 dev ens33 proto 77
			repair: ip route add 172.7.22.0/24 nhid {22} proto 77`))
	})
}

// An object goes after its routes: where one of these could not be led elsewhere, or is
// not yet, it stays as it is, as a plain route would.
func TestNexthopStaysWithItsRoute(t *testing.T) {
	m := fake(t)
	k := m.Conn.(*kerneltest.Kernel)
	s := kernel.NewSyncerFrom(m, 0)
	onePass(t, s, plain(22))
	for _, refused := range []string{"ip nexthop add", "ip route replace"} {
		k.Fail = func(call string) error {
			if strings.HasPrefix(call, refused) {
				return syscall.ENETUNREACH
			}
			return nil
		}
		if _, err := s.Apply(sharing(22)); err == nil {
			t.Error("no error")
		}
		if now := kerneltest.Render(m); !strings.Contains(now, ids(`ip route add 172.7.22.0/24 nhid {22} `)) {
			t.Errorf("with each %q refused there is\n%s", refused, now)
		}
	}
	k.Fail = nil
	onePass(t, s, sharing(22))
	compare(t, "afterwards", kerneltest.Render(m), ids(`ip nexthop add id {22+} via 10.4.7.9 dev ens33 proto 77
		ip route add 172.7.22.0/24 nhid {22+} proto 77`))
}

// The same where the route has to wait, as somebody leads it elsewhere again and again.
func TestNexthopStaysWithAContestedRoute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := fake(t)
		s := kernel.NewSyncerFrom(m, 0)
		onePass(t, s, plain(22, 23))
		for range 40 {
			m.sh(t, ids(`ip route replace 172.7.22.0/24 nhid {23} proto 77`))
			onePass(t, s, plain(22, 23))
		}
		onePass(t, s, plain(22))
		if now := kerneltest.Render(m); !strings.Contains(now, "ip route add 172.7.22.0/24") {
			t.Errorf("the route is gone:\n%s", now)
		}
		time.Sleep(2 * time.Minute)
		onePass(t, s, plain(22))
		onePass(t, s, plain(22))
		compare(t, "in time", kerneltest.Render(m), ids(`ip nexthop add id {22} via 10.4.7.22 dev ens33 proto 77
			ip route add 172.7.22.0/24 nhid {22} proto 77`))
	})
}

// Where so many routes are wanted that plain ones take long, they wait for the carrier.
func TestManyRoutesWaitForTheCarrier(t *testing.T) {
	m := fake(t)
	want := cluster(4001)
	want.Devices, want.FDB, want.Neighbours = nil, nil, nil
	for i := range want.Routes {
		want.Routes[i].Dev = "ens33"
	}
	s := kernel.NewSyncerFrom(m, 0)
	m.sh(t, `ip link set wire down`)
	if result := onePass(t, s, want); len(result.Ops) > 0 {
		t.Errorf("%d writes without a carrier", len(result.Ops))
	}
	m.sh(t, `ip link set wire up`)
	if result := onePass(t, s, want); len(result.Ops) != 2*4001 || result.Ops[0].Repair {
		t.Errorf("%d writes with a carrier", len(result.Ops))
	}
}
