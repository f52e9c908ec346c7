// Package bench measures the daemon as a whole, each figure beside the floor that the
// kernel and iproute2 set in the same run, and beside flannel. `make bench-lab` prints
// tables; `make bench-record` keeps them in run.json, from which TestDocument makes those of
// BENCHMARKS.md and its picture. Package crowd, below, simulates thousands of hosts.
package bench

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"flanneld/internal/lab"
	"flanneld/pkg/inet"
	"flanneld/pkg/subnet"
)

func TestMain(m *testing.M) {
	if config := os.Getenv(wireguardEnv); config != "" {
		if err := serveWireGuard(config); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	lab.NeedEtcd()
	lab.NeedFlanneld()
	lab.Main(m)
}

const (
	prefix    = "/coreos.com/network"
	configKey = prefix + "/config"
	runs      = 5
	soon      = 30 * time.Second
)

// mode is a way of carrying packets, with the backend that the config key asks for.
type mode struct {
	name, backend string
	families      []inet.Family
}

// These are of IPv4 alone.
var modes = []mode{
	{"host-gw", `{"Type":"host-gw"}`, ipv4},
	{"vxlan", `{"Type":"vxlan"}`, ipv4},
	{"DirectRouting", `{"Type":"vxlan","DirectRouting":true}`, ipv4},
}

var ipv4 = inet.Families()[:1]

// inBoth is the mode in both families.
func (m mode) inBoth() mode {
	m.name, m.families = m.name+", both families", inet.Families()
	return m
}

// tunnels tells whether packets to peers on the same link travel in the tunnel.
func (m mode) tunnels() bool { return m.backend == modes[1].backend }

// hasDevice tells whether the mode has the tunnel's device.
func (m mode) hasDevice() bool { return m.backend != modes[0].backend }

// config is the config key.
func (m mode) config() string {
	var fields []string
	for _, f := range m.families {
		fields = append(fields, plans[f].config)
	}
	return fmt.Sprintf(`{%s,"Backend":%s}`, strings.Join(fields, ","), m.backend)
}

// host are the addresses of host n, as [lab.Lab.Host] takes them.
func (m mode) host(n int) string {
	var addrs []string
	for _, f := range m.families {
		addrs = append(addrs, fmt.Sprintf(plans[f].host, n))
	}
	return strings.Join(addrs, ",")
}

// plan is how the cluster is addressed in a family. Those of a peer have two numbers.
type plan struct {
	config    string // its fields of the config key
	host      string
	vtep, ip  string
	subnetLen int
	mac       string

	publicIP, data string // their fields of a lease
	device         string
	overhead       int // bytes
}

var plans = map[inet.Family]plan{
	inet.IPv4: {
		`"Network":"10.0.0.0/8"`, "172.16.0.%d/16", "10.%d.%d.0", "172.16.%d.%d", 24, "0a:00:00:00:%02x:%02x",
		"PublicIP", "BackendData", "flannel.1", 50,
	},
	inet.IPv6: {
		`"EnableIPv6":true,"IPv6Network":"fc00:10::/32"`, "fd00:4::%d/64", "fc00:10:%x:%x::", "fd00:4::%x:%x", 64, "0a:06:00:00:%02x:%02x",
		"PublicIPv6", "BackendV6Data", "flannel-v6.1", 70,
	},
}

// peer is how a host is reached in a family.
type peer struct {
	subnet        netip.Prefix
	vtep, ip, mac string
}

// nthPeer is the nth other host of a large cluster, all of it on one link.
func nthPeer(f inet.Family, n int) peer {
	p, a, b := plans[f], (n+256)/256, n%256
	vtep := netip.MustParseAddr(fmt.Sprintf(p.vtep, a, b))
	return peer{
		subnet: netip.PrefixFrom(vtep, p.subnetLen), vtep: vtep.String(),
		ip: netip.MustParseAddr(fmt.Sprintf(p.ip, a+20, b)).String(), mac: fmt.Sprintf(p.mac, a, b),
	}
}

// lease is the key and the value of the nth peer's lease.
func (m mode) lease(n int) (key, value string) {
	var subnets []netip.Prefix
	var addresses, data string
	backend := "host-gw"
	if m.hasDevice() {
		backend = "vxlan"
	}
	for _, f := range m.families {
		p := nthPeer(f, n)
		subnets = append(subnets, p.subnet)
		addresses += fmt.Sprintf("%q:%q,", plans[f].publicIP, p.ip)
		if m.hasDevice() {
			data += fmt.Sprintf(`,%q:{"VtepMAC":%q}`, plans[f].data, p.mac)
		}
	}
	return prefix + "/" + subnet.SubnetsOf(subnets...).Key(), fmt.Sprintf(`{%s"BackendType":%q%s}`, addresses, backend, data)
}

// fill writes the leases of the peers from one number to another.
func fill(etcd *lab.Etcd, m mode, from, to int) {
	const writers = 16
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := from + w; i < to; i += writers {
				key, value := m.lease(i)
				etcd.SetTTL(key, value, 24*time.Hour)
			}
		})
	}
	all.Wait()
}

// cluster is a store with peers in it.
func cluster(b *testing.B, m mode, peers int) (*lab.Lab, *lab.Etcd) {
	l := lab.New(b)
	etcd := l.EtcdOn(lab.EtcdOptions{}, l.Host("store", "172.16.0.2/16"))
	fill(etcd, m, 0, peers)
	etcd.Set(configKey, m.config())
	return l, etcd
}

// flags leave iptables out of a figure.
var flags = []string{"--iptables-forward-rules=false"}

// samples are the results of several runs.
type samples []float64

func (s samples) String() string {
	sorted := slices.Sorted(slices.Values(s))
	return fmt.Sprintf("%s (%s–%s)", figure(s.median()), figure(sorted[0]), figure(sorted[len(sorted)-1]))
}

// figure is a number of three digits, as people write it.
func figure(x float64) string {
	if x >= 1000 {
		return thousands(int(x + 0.5))
	}
	return strconv.FormatFloat(x, 'g', 3, 64)
}

// thousands is a whole number as people write it.
func thousands(n int) string {
	if n < 1000 {
		return strconv.Itoa(n)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
}

func (s samples) median() float64 { return s.quantile(0.5) }

func (s *samples) add(x float64)                { *s = append(*s, x) }
func (s *samples) milliseconds(d time.Duration) { s.add(float64(d.Microseconds()) / 1000) }

func (s samples) quantile(q float64) float64 {
	sorted := slices.Sorted(slices.Values(s))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// routes counts a host's routes of a family of which iproute2 prints something.
func routes(h *lab.Host, f inet.Family, what string) int {
	out, err := h.Try("sh", "-c", fmt.Sprintf("ip -%d route show | grep -c '%s'", f, what))
	if err != nil {
		return 0
	}
	var n int
	_, _ = fmt.Sscan(out, &n)
	return n
}

// await waits, in small steps, until a host has n routes of the daemon's.
func await(b *testing.B, h *lab.Host, n int) {
	b.Helper()
	lab.Eventually(b, soon, fmt.Sprintf("%d routes on %s", n, h), func() error {
		if have := routes(h, inet.IPv4, "proto 77"); have != n {
			return fmt.Errorf("there are %d", have)
		}
		return nil
	})
}
