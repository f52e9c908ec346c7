package kernel_test

import (
	"errors"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"flanneld/pkg/kernel"
	"flanneld/pkg/kernel/kerneltest"
)

// A story with everything in it: a former flannel's leftovers, a switch of
// mode, a peer that goes and one that changes, a device recreated.
var story = []step{
	{hand: formerDevice + strangers + `
		ip neigh add 172.7.25.0 lladdr 0a:39:13:5c:8e:19 dev flannel.1 nud permanent
		bridge fdb add 0a:39:13:5c:8e:19 dev flannel.1 dst 10.4.7.25 self permanent
		ip route add 172.7.25.0/24 via 172.7.25.0 dev flannel.1 onlink
		ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33
		ip link set flannel.1 mtu 1400`, want: tunnel(22, 23)},
	{want: with(tunnel(22, 24), func(s *kernel.State) { s.Neighbours[0].MAC, s.FDB[0].MAC = macOf(122), macOf(122) })},
	{want: join(tunnel(24), plain(22))},
	{want: join(plain(22, 23, 24), secondDevice())},
	{want: plain(22, 23)},
	{want: join(guarded(22, 23), toHosts(carried()))},
	{hand: keyed(99, `wg set flannel-wg peer {K} endpoint 10.4.7.99:51820 allowed-ips 172.7.99.0/24
		wg set flannel-wg listen-port 51999`), want: join(guarded(23, 24), toHosts(carried(25)))},
	{restart: true, want: join(guarded(24), toHosts(carried(25, 26)))},
	{hand: "ip link del flannel0\nip link set flannel-wg down", want: join(guarded(22), toHosts(carried(25)))},
	{want: plain(22)},
}

// toHosts is a state with a route for each host in the place of the one for all.
func toHosts(s kernel.State) kernel.State {
	s.Routes = nil
	for _, p := range s.Peers {
		s.Routes = append(s.Routes, kernel.Route{Dst: p.Allowed[0], Dev: p.Dev, Peer: p.Endpoint.Addr()})
	}
	return s
}

func secondDevice() kernel.State {
	d := withKind(device(), func(v *kernel.VXLAN) { v.VNI = 2 })
	d.Name, d.NoChecksumOffload = "flannel.2", true
	return kernel.State{Devices: []kernel.Device{d}}
}

// flaky lets one call fail: before it reaches the kernel, or after, so that the
// write is done and nobody knows.
type flaky struct {
	kernel.Conn
	failing, calls int
	after          bool
	failed         string
}

func (f *flaky) fails(name string) bool {
	f.calls++
	if f.calls != f.failing {
		return false
	}
	f.failed = name
	return true
}

func (f *flaky) Links() ([]kernel.Link, error) {
	if f.fails("Links") {
		return nil, syscall.EIO
	}
	return f.Conn.Links()
}

func (f *flaky) Routes() ([]kernel.FoundRoute, error) {
	if f.fails("Routes") {
		return nil, syscall.EIO
	}
	return f.Conn.Routes()
}

func (f *flaky) Nexthops() ([]kernel.FoundNexthop, error) {
	if f.fails("Nexthops") {
		return nil, syscall.EIO
	}
	return f.Conn.Nexthops()
}

func (f *flaky) Entries(l kernel.Link) (kernel.Entries, error) {
	if f.fails("Entries") {
		return kernel.Entries{}, syscall.EIO
	}
	return f.Conn.Entries(l)
}

func (f *flaky) Do(ops ...kernel.Op) []error {
	errs := make([]error, len(ops))
	for i, o := range ops {
		fails := f.fails(o.String())
		if !fails || f.after {
			errs[i] = f.Conn.Do(o)[0]
		}
		if fails {
			errs[i] = syscall.EIO
		}
	}
	return errs
}

// tell plays the story; each step is a pass, and another one if that failed.
// It returns the states in between and the errors that there were.
func (f *flaky) tell(t *testing.T, nexthopsFrom int) (states []string, errs []error) {
	m := fake(t)
	f.Conn = m.Conn
	s := kernel.NewSyncerFrom(f, nexthopsFrom)
	for i, step := range story {
		if step.restart {
			f.Conn = m.restart()
			s = kernel.NewSyncerFrom(f, nexthopsFrom)
		}
		m.sh(t, step.hand)
		if _, err := s.Apply(step.want); err != nil {
			errs = append(errs, err)
			if _, err := s.Apply(step.want); err != nil {
				t.Errorf("step %d: the pass after the failed one: %v", i+1, err)
			}
		}
		now := asPlain(lines(kerneltest.Render(m)))
		slices.Sort(now)
		states = append(states, strings.Join(now, "\n"))
	}
	return states, errs
}

// Each call to the kernel fails once, in turn, and the next pass makes up for it; where
// a next hop object is refused, the same one does, by plain routes.
func TestEachCallFailsOnce(t *testing.T) {
	for _, nexthopsFrom := range []int{1000, 0} {
		eachCallFails(t, nexthopsFrom)
	}
}

func eachCallFails(t *testing.T, nexthopsFrom int) {
	undisturbed := &flaky{}
	want, _ := undisturbed.tell(t, nexthopsFrom)
	if undisturbed.calls < 40 {
		t.Fatalf("the story makes only %d calls", undisturbed.calls)
	}
	for n := range undisturbed.calls {
		for _, after := range []bool{false, true} {
			f := &flaky{failing: n + 1, after: after}
			got, errs := f.tell(t, nexthopsFrom)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%q failed once, after it was done: %v: undisturbed (-), disturbed (+):\n%s", f.failed, after, diff)
			}
			if strings.HasPrefix(f.failed, "ip nexthop add") && len(errs) == 0 {
				continue
			}
			if len(errs) != 1 || !errors.Is(errs[0], syscall.EIO) || strings.Contains(errs[0].Error(), "\n") {
				t.Errorf("%q failed once: errors %v", f.failed, errs)
			}
		}
	}
}

func TestErrorsSayWhatWasAttempted(t *testing.T) {
	k := kerneltest.New("ens33", 1500, "10.4.7.21/24")
	for _, c := range []struct {
		failing string // prefix of the calls that fail
		want    string
	}{
		{"list links", "list interfaces: operation not permitted"},
		{"list routes", "list routes: operation not permitted"},
		{"ip route add 172.7.22.0/24", "ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77: operation not permitted"},
		{"ip route", "ip route add 172.7.23.0/24 via 10.4.7.23 dev ens33 proto 77: operation not permitted; " +
			"ip route add 172.7.24.0/24 via 10.4.7.24 dev ens33 proto 77: operation not permitted; " +
			"ip route add 172.7.25.0/24 via 10.4.7.25 dev ens33 proto 77: operation not permitted; and 2 more"},
	} {
		k.Fail = func(call string) error {
			if strings.HasPrefix(call, c.failing) {
				return syscall.EPERM
			}
			return nil
		}
		want := plain(22)
		if c.failing == "ip route" {
			want = plain(23, 24, 25, 26, 27)
		}
		_, err := kernel.NewSyncer(k).Apply(want)
		if err == nil || err.Error() != c.want {
			t.Errorf("got  %v\nwant %s", err, c.want)
		}
		if !errors.Is(err, syscall.EPERM) {
			t.Errorf("%v does not wrap its cause", err)
		}
	}
}

// A device that cannot be made takes what would be on it along, and no more;
// nothing of it counts as put in place.
func TestDeviceThatCannotBeMade(t *testing.T) {
	m := fake(t)
	k := m.Conn.(*kerneltest.Kernel)
	k.Fail = func(call string) error {
		if strings.HasPrefix(call, "ip link add") {
			return syscall.EOPNOTSUPP
		}
		return nil
	}
	s := kernel.NewSyncer(m)
	want := join(tunnel(22), plain(23))
	result, err := s.Apply(want)
	if err == nil || strings.Contains(err.Error(), ";") {
		t.Errorf("error %v", err)
	}
	compare(t, "ops", texts(result.Ops), `ip route add 172.7.23.0/24 via 10.4.7.23 dev ens33 proto 77`)
	k.Fail = nil
	result, err = s.Apply(want)
	if err != nil {
		t.Error(err)
	}
	compare(t, "ops", texts(result.Ops), newDevice+newPeer22)
}

// Linux's own refusals name the way out.
func TestLinuxRefuses(t *testing.T) {
	m := linux(t)
	for _, c := range []struct {
		hand, undo string
		want       kernel.State
		says       string
	}{
		{
			`ip link add other type vxlan id 1 local 10.4.7.21 dev ens33 dstport 8472 nolearning`, `ip link del other`, tunnel(),
			"file exists: another vxlan device has this VNI and port; find it with: ip -d link show type vxlan",
		},
		{``, ``, with(tunnel(), func(s *kernel.State) { s.Devices[0] = withKind(device(), func(v *kernel.VXLAN) { v.Parent = "ens99" }) }), "there is no interface ens99"},
		{``, ``, with(plain(22), func(s *kernel.State) { s.Routes[0].Dev = "ens99" }), "there is no interface ens99: no such device"},
		{``, ``, with(plain(22), func(s *kernel.State) { s.Routes[0].Via = subnetOf(22).Addr() }), "network is unreachable: Nexthop has invalid gateway"},
	} {
		m.sh(t, c.hand)
		_, err := kernel.NewSyncer(m).Apply(c.want)
		if err == nil || !strings.HasSuffix(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("error %v\nwant one that ends in %q", err, c.says)
		}
		m.sh(t, c.undo)
	}
}

// A port that another program holds shows only when the device is set up.
func TestPortInUse(t *testing.T) {
	m := linux(t)
	other, err := net.ListenPacket("udp4", ":8472")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	s := kernel.NewSyncer(m)
	_, err = s.Apply(tunnel())
	want := "ip link set flannel.1 up: address already in use: another program or vxlan device holds this UDP port; find it with: ss -lunp"
	if err == nil || err.Error() != want {
		t.Errorf("error %v\nwant  %s", err, want)
	}
	other.Close()
	if _, err := s.Apply(tunnel()); err != nil || !linkOf(t, m, "flannel.1").Up {
		t.Error("not up once the port was free:", err)
	}
}

func TestWithoutPrivilege(t *testing.T) {
	m := linux(t) // whose thread ends with the test
	none := [2]unix.CapUserData{}
	if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0]); err != nil {
		t.Fatal(err)
	}
	_, err := kernel.NewSyncer(m).Apply(plain(22))
	want := "ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77: operation not permitted: flanneld needs CAP_NET_ADMIN"
	if err == nil || err.Error() != want {
		t.Errorf("error %v\nwant  %s", err, want)
	}
}

// What vanishes between the list and the write is gone as it should be.
func TestDeletingWhatIsGone(t *testing.T) {
	eachMachine(t, func(t *testing.T, l tongue, m machine) {
		if _, err := kernel.NewSyncer(m).Apply(l.state(tunnel())); err != nil {
			t.Fatal(err)
		}
		dev := l.hand("flannel.1")
		linkOf(t, m, dev) // listed, so its index is known
		peer := l.state(through("flannel.1", 22))
		for _, hand := range []string{``, `ip link del flannel.1`} {
			m.sh(t, hand)
			for _, o := range []kernel.Object{
				kernel.FoundRoute{Route: peer.Routes[0], Protocol: kernel.Protocol}, peer.Neighbours[0], peer.FDB[0],
				kernel.Address{Dev: dev, Prefix: peer.Routes[0].Dst},
			} {
				if err := m.Do(kernel.Op{Action: kernel.Delete, Object: o})[0]; err != nil {
					t.Errorf("after %q: delete %v: %v", hand, o, err)
				}
			}
		}
		if err := m.Do(kernel.Op{Action: kernel.Delete, Object: kernel.Device{Name: dev}})[0]; err != nil {
			t.Errorf("delete the device: %v", err)
		}
	})
}
