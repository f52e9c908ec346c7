package kernel_test

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
)

// The scripts are written for IPv4. What is here says the same of IPv6, so that each is
// played in both families: 172.7.22.0/24 is fc00:7:0:22::/64 there, 10.4.7.22 is
// fd00:4::22, flannel.1 is flannel-v6.1.

// sixAddr is an address, and the length that means the same.
func sixAddr(a netip.Addr, bits int) netip.Prefix {
	b := a.As4()
	if a.IsUnspecified() && bits == 0 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	length := map[bool]int{true: 64 + bits - 24, false: 32 + bits}[bits >= 16]
	head, tail := fmt.Sprintf("fd01:%d:%d:%d:", b[0], b[1], b[2]), fmt.Sprintf(":%d", b[3])
	switch {
	case b[0] == 172 && b[1] == 7:
		head = fmt.Sprintf("fc00:7:0:%d:", b[2])
	case b[0] == 10 && b[1] == 4 && b[2] == 7:
		head = "fd00:4:"
	}
	switch {
	case bits == 32:
		length = 128
	case bits == 16:
		length = 48
	case bits > 24 && !strings.HasPrefix(head, "fd00"):
		tail = fmt.Sprintf("%x::", int(b[3])<<8)
	}
	if b[3] == 0 && bits != 32 || tail == ":0" {
		tail = ":"
	}
	return netip.PrefixFrom(netip.MustParseAddr(head+tail), length)
}

var (
	four      = regexp.MustCompile(`\b(\d+\.\d+\.\d+\.\d+)(/(\d+))?\b`)
	endpoint  = regexp.MustCompile(`\b(\d+\.\d+\.\d+\.\d+):(\d+)\b`)
	objectID  = regexp.MustCompile(`\b1(?:29|30)\d{7}\b`)
	metrics   = regexp.MustCompile(`\bmetric (\d{1,3})\b`)
	protocol  = regexp.MustCompile(`\bproto (\d+)( metric)?`)
	sixOfHops = map[string]string{}
)

func init() {
	for n := range 256 {
		for more := range 3 {
			sixOfHops[fmt.Sprint(int(idOf(n))+more)] = fmt.Sprint(int(kernel.DrawID(sixAddr(subnetOf(n).Addr(), 24), func(uint32) bool { return false })) + more)
		}
	}
}

// six is what commands say of IPv6.
func six(text string) string {
	text = endpoint.ReplaceAllString(text, "[$1]:$2")
	text = four.ReplaceAllStringFunc(text, func(s string) string {
		m := four.FindStringSubmatch(s)
		bits := 32
		if m[3] != "" {
			bits, _ = strconv.Atoi(m[3])
		}
		p := sixAddr(netip.MustParseAddr(m[1]), bits)
		if m[3] == "" {
			return p.Addr().String()
		}
		return p.String()
	})
	text = objectID.ReplaceAllStringFunc(text, func(id string) string { return sixOfHops[id] })
	text = strings.NewReplacer("flannel.", "flannel-v6.", "mtu 1450", "mtu 1430", " scope link", "").Replace(text)
	// What stands behind a route of ours has a larger metric than that.
	text = metrics.ReplaceAllStringFunc(text, func(s string) string {
		n, _ := strconv.Atoi(strings.TrimPrefix(s, "metric "))
		return fmt.Sprint("metric ", 2000+n)
	})
	var out []string
	for _, line := range lines(text) {
		if strings.Contains(line, "ip addr add ") && !strings.HasSuffix(line, " nodad") {
			line += " nodad"
		}
		if strings.HasPrefix(line, "ip nexthop") && strings.Contains(line, "blackhole") { // which has no address that tells
			line = strings.Replace(line, "ip ", "ip -6 ", 1)
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}

// sixFound is six for what was found: its routes have the metric of IPv6.
func sixFound(text string) string {
	return protocol.ReplaceAllStringFunc(six(text), func(s string) string {
		switch {
		case strings.HasSuffix(s, " metric"):
			return s
		case s == "proto 2":
			return s + " metric 256"
		}
		return s + " metric 1024"
	})
}

// sixOps is six for the ops of a pass. Only those that delete, and what was there before,
// name a metric; objects have none.
func sixOps(text string) string {
	var out []string
	for _, line := range lines(text) {
		if strings.HasPrefix(line, "ip route del") {
			out = append(out, sixFound(line))
			continue
		}
		op, was, _ := strings.Cut(line, " (was ")
		op = six(op)
		switch {
		case was == "":
		case strings.Contains(line, "ip nexthop"):
			op += " (was " + six(was)
		default:
			op += " (was " + sixFound(was)
		}
		out = append(out, op)
	}
	return sorted(strings.Join(paved(out), "\n"))
}

var ledElsewhere = regexp.MustCompile(`ip route replace \S+ via (\S+) dev (\S+) onlink .*\(was (.*)$`)

// paved has ops with what it takes besides where a gateway is led elsewhere.
func paved(ops []string) []string {
	var pave, unpave []string
	first, last := -1, -1
	for i, op := range ops {
		if strings.Contains(op, "ip route ") || strings.Contains(op, "ip nexthop ") {
			if first < 0 {
				first = i
			}
			if !strings.Contains(op, " del ") {
				last = i
			}
		}
		if m := ledElsewhere.FindStringSubmatch(op); m != nil && !strings.Contains(m[3], "dev "+m[2]+" ") {
			pave = append(pave, "ip route add "+m[1]+"/128 dev "+m[2]+" proto 77 (so that the gateway is on the link)")
			unpave = append(unpave, "ip route del "+m[1]+"/128 dev "+m[2]+" proto 77 metric 1024")
		}
	}
	if len(pave) == 0 {
		return ops
	}
	return slices.Concat(ops[:first], pave, ops[first:last+1], unpave, ops[last+1:])
}

// sixShows is sixFound for the state of a kernel: next hop objects have no metric.
func sixShows(text string) string {
	var out []string
	for _, line := range lines(text) {
		if strings.HasPrefix(line, "ip route") {
			line = sixFound(line)
		} else {
			line = six(line)
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}

func sixPrefix(p netip.Prefix) netip.Prefix {
	if !p.IsValid() || !p.Addr().Is4() {
		return p
	}
	return sixAddr(p.Addr(), p.Bits())
}

func sixOne(a netip.Addr) netip.Addr {
	if !a.Is4() {
		return a
	}
	return sixAddr(a, 32).Addr()
}

func sixDev(name string) string { return strings.Replace(name, "flannel.", "flannel-v6.", 1) }

func sixDevice(d kernel.Device) kernel.Device {
	v, isVXLAN := d.Kind.(kernel.VXLAN)
	if isVXLAN {
		v.Local = sixOne(v.Local)
		d.Kind = v
	}
	if d.MTU == 1450 {
		d.MTU = 1430
	}
	d.Name = sixDev(d.Name)
	var addrs []kernel.DeviceAddr
	for _, a := range d.Addrs {
		if a.IsValid() {
			addrs = append(addrs, kernel.DeviceAddr{Prefix: sixPrefix(a.Prefix), Network: sixPrefix(a.Network), SubnetLen: a.SubnetLen + 40})
		}
	}
	d.Addrs = kernel.AddrsOf(addrs...)
	return d
}

// sixState is a state of IPv6.
func sixState(s kernel.State) kernel.State {
	s.Devices, s.Routes = slices.Clone(s.Devices), slices.Clone(s.Routes)
	s.Neighbours, s.FDB = slices.Clone(s.Neighbours), slices.Clone(s.FDB)
	s.Networks, s.Own = slices.Clone(s.Networks), slices.Clone(s.Own)
	for i, d := range s.Devices {
		s.Devices[i] = sixDevice(d)
	}
	for i, r := range s.Routes {
		s.Routes[i] = kernel.Route{Dst: sixPrefix(r.Dst), Via: sixOne(r.Via), Dev: sixDev(r.Dev), OnLink: r.OnLink, Peer: sixOne(r.Peer)}
	}
	for i, n := range s.Neighbours {
		s.Neighbours[i] = kernel.Neighbour{Dev: sixDev(n.Dev), Addr: sixOne(n.Addr), MAC: n.MAC}
	}
	for i, f := range s.FDB {
		s.FDB[i] = kernel.FDB{Dev: sixDev(f.Dev), MAC: f.MAC, Dst: sixOne(f.Dst)}
	}
	s.Peers = slices.Clone(s.Peers)
	for i := range s.Peers {
		p := &s.Peers[i]
		if p.Allowed[0].IsValid() {
			p.Allowed = [2]netip.Prefix{1: sixPrefix(p.Allowed[0])}
		}
		p.Endpoint = netip.AddrPortFrom(sixOne(p.Endpoint.Addr()), p.Endpoint.Port())
	}
	for i, p := range s.Networks {
		s.Networks[i] = sixPrefix(p)
	}
	for i, p := range s.Own {
		s.Own[i] = sixPrefix(p)
	}
	if harmful := s.Harmful; harmful != nil {
		s.Harmful = func(p netip.Prefix) bool {
			for n := range 256 {
				if sixPrefix(subnetOf(n)) == p {
					return harmful(subnetOf(n))
				}
			}
			return false
		}
	}
	return s
}

// tongue says what a script says, of one family.
type tongue struct {
	family                  inet.Family
	hand, ops, found, shows func(string) string
	state                   func(kernel.State) kernel.State
}

func tongues() []tongue {
	same := func(s string) string { return s }
	return []tongue{
		{inet.IPv4, same, same, same, same, func(s kernel.State) kernel.State { return s }},
		{inet.IPv6, six, sixOps, sixFound, sixShows, sixState},
	}
}

// in is a kernel in a family, whose shell understands what is said of IPv4.
func (l tongue) in(m machine) machine {
	run := m.run
	m.run = func(commands string) error {
		for _, line := range lines(l.hand(commands)) {
			if err := run(line); err != nil {
				return err
			}
			if line == "ip link set ens33 up" && l.family == inet.IPv6 { // its addresses went when it was down
				_ = run("ip addr add " + hostOf[l.family] + " dev ens33 nodad")
			}
		}
		return nil
	}
	return m
}

// eachFamily runs a test of the real kernel in both.
func eachFamily(t *testing.T, test func(*testing.T, tongue, machine)) {
	t.Helper()
	for _, l := range tongues() {
		t.Run(l.family.String(), func(t *testing.T) { test(t, l, l.in(linuxOf(t, l.family))) })
	}
}

// eachMachine runs a test of either kernel in both.
func eachMachine(t *testing.T, test func(*testing.T, tongue, machine)) {
	t.Helper()
	for _, l := range tongues() {
		t.Run("fake/"+l.family.String(), func(t *testing.T) { test(t, l, l.in(fakeOf(l.family))) })
		t.Run("linux/"+l.family.String(), func(t *testing.T) { test(t, l, l.in(linuxOf(t, l.family))) })
	}
}

// The scripts mean what they should.
func TestSix(t *testing.T) {
	for text, want := range map[string]string{
		"ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77":        "ip route add fc00:7:0:22::/64 via fd00:4::22 dev ens33 proto 77",
		"ip route add 172.7.22.128/25 via 172.7.22.0 dev flannel.1 metric 7": "ip route add fc00:7:0:22:8000::/65 via fc00:7:0:22:: dev flannel-v6.1 metric 2007",
		"ip addr add 172.7.21.0/32 dev flannel.1":                            "ip addr add fc00:7:0:21::/128 dev flannel-v6.1 nodad",
		"172.7.0.0/16 10.4.7.21/24 0.0.0.0/0 172.7.22.9/32":                  "fc00:7::/48 fd00:4::21/64 ::/0 fc00:7:0:22::9/128",
		"192.168.5.0/24 10.4.8.0":                                            "fd01:192:168:5::/64 fd01:10:4:8::",
	} {
		if got := six(text); got != want {
			t.Errorf("%s is %s\nnot %s", text, got, want)
		}
	}
}
