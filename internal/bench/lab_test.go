// Package bench measures the daemon as a whole, beside the floor that the
// kernel and `ip -batch` set, and prints BENCHMARKS.md's tables.
package bench

import (
	"fmt"
	"os"
	"path/filepath"
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
)

// mode is a way of carrying packets, with the config that asks for it.
type mode struct{ name, config string }

var modes = []mode{
	{"host-gw", `{"Network":"10.0.0.0/8","Backend":{"Type":"host-gw"}}`},
	{"vxlan", `{"Network":"10.0.0.0/8","Backend":{"Type":"vxlan"}}`},
	{"DirectRouting", `{"Network":"10.0.0.0/8","Backend":{"Type":"vxlan","DirectRouting":true}}`},
}

// peer is the nth other host of a large cluster.
type peer struct{ subnet, vtep, ip, mac string }

func nthPeer(n int) peer {
	a, b := (n+256)/256, n%256
	return peer{
		subnet: fmt.Sprintf("10.%d.%d.0/24", a, b), vtep: fmt.Sprintf("10.%d.%d.0", a, b),
		ip:  fmt.Sprintf("172.16.%d.%d", a+20, b), // all on one link, a /16
		mac: fmt.Sprintf("0a:00:00:00:%02x:%02x", a, b),
	}
}

func (p peer) lease(m mode) string {
	if m.name == "host-gw" {
		return fmt.Sprintf(`{"PublicIP":"%s","BackendType":"host-gw"}`, p.ip)
	}
	return fmt.Sprintf(`{"PublicIP":"%s","BackendType":"vxlan","BackendData":{"VtepMAC":"%s"}}`, p.ip, p.mac)
}

// fill writes the leases of n peers.
func fill(etcd *lab.Etcd, m mode, n int) {
	var writers sync.WaitGroup
	for w := range 16 {
		writers.Go(func() {
			for i := w; i < n; i += 16 {
				p := nthPeer(i)
				etcd.SetTTL(leases+strings.Replace(p.subnet, "/", "-", 1), p.lease(m), 24*time.Hour)
			}
		})
	}
	writers.Wait()
	etcd.Set(configKey, m.config)
}

// batches are the files by which ip and bridge make the same objects.
func batches(b *testing.B, m mode, n int) (ip, bridge string) {
	var routes, fdb strings.Builder
	if m.name != "host-gw" {
		routes.WriteString("link add flannel.1 address 0a:00:00:00:ff:ff mtu 1450 type vxlan id 1 local 172.16.0.9 dev ens33 dstport 8472 nolearning\n" +
			"addr add 10.200.0.0/32 dev flannel.1\nlink set flannel.1 up\n")
	}
	for i := range n {
		p := nthPeer(i)
		if m.name == "vxlan" {
			fmt.Fprintf(&fdb, "fdb add %s dev flannel.1 dst %s self permanent\n", p.mac, p.ip)
			fmt.Fprintf(&routes, "neigh add %s lladdr %s dev flannel.1 nud permanent\n", p.vtep, p.mac)
			fmt.Fprintf(&routes, "route add %s via %s dev flannel.1 onlink proto 77\n", p.subnet, p.vtep)
			continue
		}
		fmt.Fprintf(&routes, "route add %s via %s dev ens33 proto 77\n", p.subnet, p.ip)
	}
	ip, bridge = filepath.Join(b.TempDir(), "ip"), filepath.Join(b.TempDir(), "bridge")
	for path, text := range map[string]string{ip: routes.String(), bridge: fdb.String()} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	return ip, bridge
}

func BenchmarkColdStart(b *testing.B) {
	for _, m := range modes {
		for _, n := range []int{250, 1000, 4000} {
			b.Run(fmt.Sprintf("%s/%d", m.name, n), func(b *testing.B) {
				l := lab.New(b)
				store := l.Host("store", "172.16.0.2/16")
				etcd := l.EtcdOn(lab.EtcdOptions{}, store)
				fill(etcd, m, n)
				ipFile, bridgeFile := batches(b, m, n)
				for b.Loop() {
					floor := l.Host("floor", "172.16.0.9/16")
					start := time.Now()
					floor.Run("ip", "-batch", ipFile)
					if m.name == "vxlan" {
						floor.Run("bridge", "-batch", bridgeFile)
					}
					base := time.Since(start)
					floor.LinkDown()

					h := l.Host("host", "172.16.0.10/16")
					d := h.Flanneld("--iptables-forward-rules=false")
					took := d.WaitReady()
					cpu, rss := d.CPUTime(), d.MaxRSS()
					d.Kill()
					d.Restart()
					warm := d.WaitReady()
					time.Sleep(300 * time.Millisecond)
					b.Logf("floor %v, cold %v (%.2f x), cpu %v, rss %d KiB; warm %v writes %d", base, took, float64(took)/float64(base), cpu, rss, warm, strings.Count(d.Log(), "kernel:"))
					d.Stop()
				}
			})
		}
	}
}
