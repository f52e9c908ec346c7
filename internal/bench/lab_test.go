// Package bench measures the daemon as a whole, each figure beside the floor that the
// kernel and iproute2 set in the same run, and beside flannel. `make bench-lab` prints
// tables; `make bench-record` keeps them in run.json, from which TestDocument makes those of
// BENCHMARKS.md and its picture. Package crowd, below, simulates thousands of hosts.
package bench

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"flanneld/internal/lab"
)

func TestMain(m *testing.M) {
	lab.NeedEtcd()
	lab.NeedFlanneld()
	lab.Main(m)
}

const (
	configKey = "/coreos.com/network/config"
	leases    = "/coreos.com/network/subnets/"
	runs      = 5
	soon      = 30 * time.Second
)

// mode is a way of carrying packets, with the config that asks for it.
type mode struct{ name, config string }

var modes = []mode{
	{"host-gw", `{"Network":"10.0.0.0/8","Backend":{"Type":"host-gw"}}`},
	{"vxlan", `{"Network":"10.0.0.0/8","Backend":{"Type":"vxlan"}}`},
	{"DirectRouting", `{"Network":"10.0.0.0/8","Backend":{"Type":"vxlan","DirectRouting":true}}`},
}

// peer is the nth other host of a large cluster, all of it on one link.
type peer struct{ subnet, vtep, ip, mac string }

func nthPeer(n int) peer {
	a, b := (n+256)/256, n%256
	return peer{
		subnet: fmt.Sprintf("10.%d.%d.0/24", a, b), vtep: fmt.Sprintf("10.%d.%d.0", a, b),
		ip: fmt.Sprintf("172.16.%d.%d", a+20, b), mac: fmt.Sprintf("0a:00:00:00:%02x:%02x", a, b),
	}
}

func (p peer) key() string { return leases + strings.Replace(p.subnet, "/", "-", 1) }

func (p peer) lease(m mode) string {
	if m.name == "host-gw" {
		return fmt.Sprintf(`{"PublicIP":"%s","BackendType":"host-gw"}`, p.ip)
	}
	return fmt.Sprintf(`{"PublicIP":"%s","BackendType":"vxlan","BackendData":{"VtepMAC":"%s"}}`, p.ip, p.mac)
}

// fill writes the leases of the peers from one number to another.
func fill(etcd *lab.Etcd, m mode, from, to int) {
	const writers = 16
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := from + w; i < to; i += writers {
				etcd.SetTTL(nthPeer(i).key(), nthPeer(i).lease(m), 24*time.Hour)
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
	etcd.Set(configKey, m.config)
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

// routes counts a host's routes of which iproute2 prints something.
func routes(h *lab.Host, what string) int {
	out, err := h.Try("sh", "-c", "ip route show | grep -c '"+what+"'")
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
		if have := routes(h, "proto 77"); have != n {
			return fmt.Errorf("there are %d", have)
		}
		return nil
	})
}
