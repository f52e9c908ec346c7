package kernel_test

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
	"flanneld/pkg/kernel/kerneltest"
)

// machine is a kernel, in memory or real, and an administrator's shell on it.
type machine struct {
	kernel.Conn
	run     func(command string) error
	restart func() kernel.Conn // of the process that serves devices of user space
}

// sh types commands, one a line.
func (m machine) sh(t testing.TB, commands string) {
	t.Helper()
	for _, line := range lines(commands) {
		if err := m.run(line); err != nil {
			t.Fatal(err)
		}
	}
}

func fake(testing.TB) machine { return fakeOf(inet.IPv4) }

func fakeOf(f inet.Family) machine {
	k := kerneltest.New("ens33", 1500, hostOf[f])
	k.AddLink(kernel.Link{Name: "wire", MTU: 1500, Up: true, Type: "veth"})
	k.Pair("ens33", "wire")
	k.NoWireGuard = !kernelHasWireGuard()
	return machine{k, k.Run, func() kernel.Conn { k.Leave(); return k }}
}

// kernelHasWireGuard tells whether devices of this kind are the kernel's here.
var kernelHasWireGuard = sync.OnceValue(func() bool {
	has := make(chan bool)
	go func() { // which ends its thread, and the namespace with it
		runtime.LockOSThread()
		link := &netlink.Wireguard{LinkAttrs: netlink.LinkAttrs{Name: "probe"}}
		has <- unix.Unshare(unix.CLONE_NEWNET) == nil && netlink.LinkAdd(link) == nil
	}()
	return <-has
})

// hostOf is the host's address, by family.
var hostOf = map[inet.Family]string{inet.IPv4: "10.4.7.21/24", inet.IPv6: "fd00:4::21/64"}

// linux is the real kernel in a network namespace that ends with the test. The
// calling goroutine stays on a thread of its own.
func linux(t testing.TB) machine { return linuxOf(t, inet.IPv4) }

func linuxOf(t testing.TB, f inet.Family) machine {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	if f == inet.IPv6 && os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("0"), 0) != nil {
		t.Skip("this kernel has no IPv6")
	}
	m := machine{run: typed}
	addr := "ip addr add " + hostOf[f] + " dev ens33"
	if f == inet.IPv6 {
		addr += " nodad"
	}
	m.sh(t, `
		ip link set lo up
		ip link add ens33 type veth peer name wire
		ip link set wire up
		`+addr+`
		ip link set ens33 up`)
	conn, err := kernel.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	m.Conn = conn
	m.restart = func() kernel.Conn {
		conn.Close()
		if conn, err = kernel.Open(f); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	return m
}

func typed(command string) error {
	words := strings.Fields(command)
	if words[0] == "offload" { // ethtool -K DEV tx on|off, of a package that few machines have
		return kernel.SetOffload(words[2], words[1] == "on")
	}
	if words[0] == "wg" {
		return typedWG(words[2:])
	}
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %v: %s", command, err, out)
	}
	if up := command == "ip link set wire up"; up || command == "ip link set wire down" { // the other end hears of it a little later
		for range 2000 {
			out, err := exec.Command("ip", "link", "show", "ens33").CombinedOutput()
			if err != nil || !strings.Contains(string(out), ",UP") || strings.Contains(string(out), "state UP") == up {
				return nil
			}
			time.Sleep(time.Millisecond)
		}
		return fmt.Errorf("%s: ens33 has not heard of it", command)
	}
	return nil
}

func output(t testing.TB, command string) string {
	t.Helper()
	words := strings.Fields(command)
	out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
	return string(out)
}

// step is what happens to a kernel: commands typed by hand, then a pass.
type step struct {
	restart   bool   // the daemon forgets everything before
	hand      string // commands, one a line
	want      kernel.State
	ops       string // what the pass is to write, in order
	conflicts string // what stands in its way
	foreign   string // if not empty, what others have put on its devices; "-" for none
	shows     string // if not empty, the state afterwards; "-" for none
}

// play runs a script on the fake and on the real kernel: both write the same,
// in the order given, and end in the same state.
func play(t *testing.T, steps ...step) {
	t.Helper()
	playFrom(t, 1000, steps...)
}

// playFrom is play with next hop objects from so many wanted routes on.
func playFrom(t *testing.T, nexthopsFrom int, steps ...step) {
	t.Helper()
	playIn(t, tongues(), nexthopsFrom, steps...)
}

// play4 is play for what IPv6 has not, or has in another way.
func play4(t *testing.T, steps ...step) {
	t.Helper()
	playIn(t, tongues()[:1], 1000, steps...)
}

// play6 is play for what only IPv6 has; the script is in its own words.
func play6(t *testing.T, nexthopsFrom int, steps ...step) {
	t.Helper()
	own := tongues()[0]
	own.family = inet.IPv6
	playIn(t, []tongue{own}, nexthopsFrom, steps...)
}

func playIn(t *testing.T, in []tongue, nexthopsFrom int, steps ...step) {
	t.Helper()
	for _, l := range in {
		steps := slices.Clone(steps)
		for i, s := range steps {
			if l.family == inet.IPv6 { // its addresses went when it was down
				s.hand = strings.Replace(s.hand, "ip link set ens33 up", "ip link set ens33 up\nip addr add 10.4.7.21/24 dev ens33", 1)
			}
			steps[i].hand, steps[i].want, steps[i].ops = l.hand(s.hand), l.state(s.want), l.ops(s.ops)
			steps[i].conflicts, steps[i].foreign, steps[i].shows = l.found(s.conflicts), l.found(s.foreign), l.shows(s.shows)
		}
		suffix := ""
		if l.family == inet.IPv6 {
			suffix = "6"
		}
		var inMemory []string
		t.Run("fake"+suffix, func(t *testing.T) { inMemory = script(t, fakeOf(l.family), nexthopsFrom, steps) })
		t.Run("linux"+suffix, func(t *testing.T) {
			if diff := cmp.Diff(inMemory, script(t, linuxOf(t, l.family), nexthopsFrom, steps)); diff != "" {
				t.Errorf("fake (-) and Linux (+) end in different states:\n%s", diff)
			}
		})
	}
}

func script(t *testing.T, m machine, nexthopsFrom int, steps []step) (states []string) {
	s := kernel.NewSyncerFrom(m, nexthopsFrom)
	for i, step := range steps {
		if step.restart {
			m.Conn = m.restart()
			s = kernel.NewSyncerFrom(m, nexthopsFrom)
		}
		m.sh(t, step.hand)
		result, err := s.Apply(step.want)
		if err != nil {
			t.Errorf("step %d: %v", i+1, err)
		}
		compare(t, fmt.Sprintf("step %d: ops", i+1), texts(result.Ops), step.ops)
		var conflicts []string
		for _, c := range result.Conflicts {
			place := map[kernel.Place]string{kernel.InOwn: "in own: ", kernel.InPart: "in part: "}[c.Place]
			conflicts = append(conflicts, place+c.Found.String())
		}
		var foreign []string
		for _, f := range result.Foreign {
			foreign = append(foreign, f.String())
		}
		if step.foreign != "" {
			compare(t, fmt.Sprintf("step %d: foreign", i+1), strings.Join(foreign, "\n"), strings.TrimPrefix(step.foreign, "-"))
		}
		compare(t, fmt.Sprintf("step %d: conflicts", i+1), strings.Join(conflicts, "\n"), step.conflicts)

		state := kerneltest.Render(m)
		if step.shows != "" {
			shows := lines(strings.TrimPrefix(step.shows, "-"))
			slices.Sort(shows)
			compare(t, fmt.Sprintf("step %d: state", i+1), state, strings.Join(shows, "\n"))
		}
		if result, err := s.Apply(step.want); err != nil || len(result.Ops) > 0 {
			t.Errorf("step %d: a second pass writes\n%s\nerror: %v", i+1, texts(result.Ops), err)
		}
		states = append(states, state)
	}
	return states
}

// texts are ops as commands. Those of one kind and verb in a row are sorted:
// their order means nothing.
func texts(ops []kernel.Op) string {
	var lines, group []string
	flush := func() {
		if len(group) > 0 && !strings.HasPrefix(group[0], "ip link") {
			slices.Sort(group)
		}
		lines, group = append(lines, group...), nil
	}
	for i, o := range ops {
		if i > 0 && (o.Kind() != ops[i-1].Kind() || o.Action != ops[i-1].Action) {
			flush()
		}
		group = append(group, text(o))
	}
	flush()
	return strings.Join(lines, "\n")
}

func text(o kernel.Op) string {
	s := o.String()
	if o.Repair {
		s = "repair: " + s
	}
	if o.Why != "" {
		s += " (" + o.Why + ")"
	}
	return s
}

// compare compares texts line by line; indents and empty lines mean nothing.
func compare(t testing.TB, what, got, want string) {
	t.Helper()
	if diff := cmp.Diff(lines(want), lines(got)); diff != "" {
		t.Errorf("%s: wanted (-), got (+):\n%s", what, diff)
	}
}

func lines(text string) (out []string) {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, line)
		}
	}
	return out
}

// subnetOf and ipOf are what the lease of host 10.4.7.n says.
func subnetOf(n int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 7, byte(n)}), 24)
}
func ipOf(n int) netip.Addr  { return netip.AddrFrom4([4]byte{10, 4, 7, byte(n)}) }
func macOf(n int) kernel.MAC { return kernel.MAC{0x0a, 0x39, 0x13, 0x5c, 0x8e, byte(n)} }

// plain has a route of the host-gw kind to each peer.
func plain(peers ...int) (s kernel.State) {
	for _, n := range peers {
		s.Routes = append(s.Routes, kernel.Route{Dst: subnetOf(n), Via: ipOf(n), Dev: "ens33", Peer: ipOf(n)})
	}
	return s
}

func device() kernel.Device { return deviceOf("flannel.1", vxlan()) }

func vxlan() kernel.VXLAN {
	return kernel.VXLAN{VNI: 1, Port: 8472, Parent: "ens33", Local: ipOf(21)}
}

func deviceOf(name string, kind kernel.DeviceKind) kernel.Device {
	return kernel.Device{Name: name, Kind: kind, MAC: macOf(21), MTU: 1450, Addrs: ownAddr("172.7.21.0")}
}

func ownAddr(addr string) kernel.DeviceAddrs { return ownAddrIn(addr, "172.7.0.0/16") }

func ownAddrIn(addr, network string) kernel.DeviceAddrs {
	return kernel.AddrsOf(kernel.DeviceAddr{Prefix: prefix32(addr), Network: netip.MustParsePrefix(network), SubnetLen: 24})
}

// withKind is a device after an edit of its kind.
func withKind(d kernel.Device, edit func(*kernel.VXLAN)) kernel.Device {
	v := d.Kind.(kernel.VXLAN)
	edit(&v)
	d.Kind = v
	return d
}

// tunnel has the device flannel.1 and all that leads to each peer through it.
func tunnel(peers ...int) kernel.State {
	s := kernel.State{Devices: []kernel.Device{device()}}
	for _, n := range peers {
		s = join(s, through("flannel.1", n))
	}
	return s
}

func through(dev string, n int) kernel.State {
	vtep := subnetOf(n).Addr()
	return kernel.State{
		Routes:     []kernel.Route{{Dst: subnetOf(n), Via: vtep, Dev: dev, OnLink: true, Peer: ipOf(n)}},
		Neighbours: []kernel.Neighbour{{Dev: dev, Addr: vtep, MAC: macOf(n)}},
		FDB:        []kernel.FDB{{Dev: dev, MAC: macOf(n), Dst: ipOf(n)}},
	}
}

func join(a, b kernel.State) kernel.State {
	return kernel.State{
		Devices: slices.Concat(a.Devices, b.Devices), Routes: slices.Concat(a.Routes, b.Routes),
		Neighbours: slices.Concat(a.Neighbours, b.Neighbours), FDB: slices.Concat(a.FDB, b.FDB),
		Peers: slices.Concat(a.Peers, b.Peers), Partial: a.Partial || b.Partial,
	}
}

func partial(s kernel.State) kernel.State {
	s.Partial = true
	return s
}

// with is a state after an edit.
func with(s kernel.State, edit func(*kernel.State)) kernel.State {
	s = join(s, kernel.State{})
	edit(&s)
	return s
}

func prefix32(addr string) netip.Prefix { return netip.PrefixFrom(netip.MustParseAddr(addr), 32) }
