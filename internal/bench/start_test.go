package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"flanneld/internal/lab"
)

// batches are the files by which ip and bridge make the same objects as the
// daemon.
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

// BenchmarkStart: from the process's start to READY=1, which follows the last
// route and subnet.env; and again over a kernel that has it all.
func BenchmarkStart(b *testing.B) {
	header("Start (minimum / median / maximum of "+fmt.Sprint(runs)+" rounds)", "mode", "leases", "`ip -batch`, ms", "cold start, ms", "× batch (medians)", "within 1.2 × + 60 ms",
		"CPU of it, ms", "peak memory, MiB", "of it the program's file", "warm start, ms", "netlink writes of a warm start")
	for _, m := range modes {
		for _, n := range []int{250, 1000, 4000} {
			b.Run(fmt.Sprintf("%s/%d", m.name, n), func(b *testing.B) {
				b.ReportMetric(0, "ns/op")
				start(b, m, n)
			})
		}
	}
}

func start(b *testing.B, m mode, n int) {
	l, _ := cluster(b, m, n)
	ipFile, bridgeFile := batches(b, m, n)
	var floors, colds, cpus, peaks, files, warms samples
	writes := 0
	for range runs {
		floor := l.Host("floor", "172.16.0.9/16")
		began := time.Now()
		floor.Run("ip", "-batch", ipFile)
		if m.name == "vxlan" {
			floor.Run("bridge", "-batch", bridgeFile)
		}
		floors.milliseconds(time.Since(began))
		floor.LinkDown()

		h := l.Host("host", "172.16.0.10/16")
		d := h.Flanneld(flags...)
		colds.milliseconds(d.WaitReady())
		cpus.milliseconds(d.CPUTime())
		time.Sleep(500 * time.Millisecond)
		peaks.add(float64(d.MaxRSS()) / (1 << 20))
		files.add(float64(d.FileRSS()) / (1 << 20))
		d.Kill()
		d.Restart()
		warms.milliseconds(d.WaitReady())
		time.Sleep(300 * time.Millisecond)
		writes += strings.Count(d.Log(), "kernel:")
		d.Stop()
		h.Cut()
	}
	median, base := colds.quantile(0.5), floors.quantile(0.5)
	row(m.name, n, floors, colds, fmt.Sprintf("%.2f", median/base), median <= 1.2*base+60, cpus, peaks, files, warms, writes)
}

// BenchmarkNewcomer: a lease is written, and appears as a route on 24 hosts.
func BenchmarkNewcomer(b *testing.B) {
	b.ReportMetric(0, "ns/op")
	const hosts, newcomers = 24, 40
	l, etcd := cluster(b, modes[0], 0)
	var all []*lab.Host
	for i := range hosts {
		h := l.Host(fmt.Sprintf("host-%d", i), fmt.Sprintf("172.16.1.%d/16", i+1))
		h.Flanneld(flags...).WaitReady()
		all = append(all, h)
	}
	for _, h := range all {
		await(b, h, hosts-1)
	}
	var took samples
	for n := range newcomers {
		p := nthPeer(n)
		seen := make(chan time.Time, hosts)
		var watchers []*lab.RouteWatch
		for _, h := range all {
			watchers = append(watchers, h.WatchRoute(p.subnet, seen))
		}
		written := time.Now()
		etcd.SetTTL(p.key(), p.lease(modes[0]), 24*time.Hour)
		for range hosts {
			select {
			case at := <-seen:
				took.milliseconds(at.Sub(written))
			case <-time.After(soon):
				b.Fatalf("a host has no route to %s", p.subnet)
			}
		}
		for _, w := range watchers {
			w.Stop()
		}
		time.Sleep(100 * time.Millisecond)
	}
	header("A newcomer's lease becomes a route on every one of 24 hosts, ms", "newcomers", "p50", "p99", "slowest")
	row(newcomers, fmt.Sprintf("%.2g", took.quantile(0.5)), fmt.Sprintf("%.2g", took.quantile(0.99)), fmt.Sprintf("%.2g", took.quantile(1)))
}

// BenchmarkBurst: 1,000 leases change as fast as etcd takes them.
func BenchmarkBurst(b *testing.B) {
	b.ReportMetric(0, "ns/op")
	header("A burst of 1,000 new leases over 1,000 present", "mode", "etcd took, ms", "last route after the last write, ms", "passes that wrote")
	for _, m := range modes[:2] {
		l, etcd := cluster(b, m, 1000)
		h := l.Host("host", "172.16.0.10/16")
		d := h.Flanneld(flags...)
		d.WaitReady()
		before := strings.Count(d.Log(), "kernel:")
		began := time.Now()
		fill(etcd, m, 1000, 2000)
		written := time.Now()
		await(b, h, 2000)
		row(m.name, written.Sub(began).Milliseconds(), time.Since(written).Milliseconds(), strings.Count(d.Log(), "kernel:")-before)
	}
}

// BenchmarkIdle: a minute in which nothing happens, with 1,000 peers.
func BenchmarkIdle(b *testing.B) {
	b.ReportMetric(0, "ns/op")
	header("Idle for a minute, 1,000 peers", "mode", "CPU, ms", "CPU, %", "netlink writes", "etcd requests")
	for _, m := range modes[:2] {
		l, etcd := cluster(b, m, 1000)
		d := l.Host("host", "172.16.0.10/16").Flanneld(flags...)
		d.WaitReady()
		time.Sleep(5 * time.Second)
		cpu, asked, written := d.CPUTime(), etcd.Requests(), strings.Count(d.Log(), "kernel:")
		time.Sleep(time.Minute)
		cpu = d.CPUTime() - cpu
		row(m.name, cpu.Milliseconds(), fmt.Sprintf("%.3f", 100*cpu.Seconds()/60), strings.Count(d.Log(), "kernel:")-written, etcd.Requests()-asked)
	}
}
