package bench

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"flanneld/internal/lab"
	"flanneld/pkg/inet"
)

// BenchmarkStart: from the process's start to READY=1, which follows the last
// route and subnet.env; and again over a kernel that has it all.
func BenchmarkStart(b *testing.B) {
	b.ReportMetric(0, "ns/op")
	t := newTable(b, "start", "Start: median (minimum–maximum) of 3 to 5 rounds, in ms",
		"mode", "leases", "`ip -batch`, plain routes", "`ip -batch`, nexthop objects", "cold start", "× nexthops", "target",
		"CPU", "peak memory, MiB", "warm start", "writes of it")
	for _, rows := range []struct {
		mode
		leases []int
	}{
		{modes[0], []int{250, 1000, 4000, 20000}},
		{modes[1], []int{250, 1000, 4000, 20000}},
		{modes[2], []int{250, 1000, 4000}}, // 20,000 as host-gw
		{modes[0].inBoth(), []int{1000, 4000}},
		{modes[1].inBoth(), []int{1000, 4000}},
	} {
		for _, n := range rows.leases {
			b.Run(fmt.Sprintf("%s/%d", rows.name, n), func(b *testing.B) {
				b.ReportMetric(0, "ns/op")
				start(b, t, rows.mode, n)
			})
		}
	}
}

// start measures both floors and the daemon in turn, so that a change of the machine's
// load affects all.
func start(b *testing.B, t *table, m mode, n int) {
	rounds := runs
	if n > 4000 { // plain routes take their time
		rounds = 3
	}
	l, _ := cluster(b, m, n)
	plainFloor, nexthopFloor := newFloor(b, m, n, false), newFloor(b, m, n, true)
	var plain, nexthops, colds, cpus, peaks, warms samples
	writes := 0
	for range rounds {
		plain.milliseconds(plainFloor.take(l))
		nexthops.milliseconds(nexthopFloor.take(l))

		h := l.Host("host", m.host(10))
		d := h.Flanneld(flags...)
		colds.milliseconds(d.WaitReady())
		cpus.milliseconds(d.CPUTime())
		time.Sleep(500 * time.Millisecond)
		peaks.add(float64(d.MaxRSS()) / (1 << 20))
		if cold, _ := written(d.Log()); cold < n*len(m.families) {
			b.Fatalf("the log tells of %d writes for %d leases", cold, n)
		}
		for _, f := range m.families {
			if have := routes(h, f, "proto 77"); have < n {
				b.Fatalf("it is ready with %d routes of %v", have, f)
			}
		}
		d.Kill()
		d.Restart()
		warms.milliseconds(d.WaitReady())
		time.Sleep(300 * time.Millisecond)
		more, _ := written(d.Log())
		writes += more
		d.Stop()
		h.Cut()
	}
	factor := 2.0
	if n > 4000 {
		factor = 1.5
	}
	cold, base := colds.median(), nexthops.median()
	verdict := "missed"
	if cold <= factor*base+60 {
		verdict = "met"
	}
	t.row(m.name, thousands(n), plain, nexthops, colds, fmt.Sprintf("%.1f", cold/base),
		fmt.Sprintf("≤ %g × + 60: %s", factor, verdict), cpus, peaks, warms, writes)
	t.point(m.name+", flanneld", n, cold)
	t.point(m.name+", plain routes", n, plain.median())
	t.point(m.name+", nexthop objects", n, base)
}

// written counts the daemon's writes to the kernel, and the passes that made many, by its log.
func written(log string) (writes, passes int) {
	for line := range strings.Lines(log) {
		if !strings.Contains(line, `"Wrote to the kernel"`) && !strings.Contains(line, `"Repaired what`) {
			continue
		}
		n := 1
		if _, many, found := strings.Cut(line, " writes="); found {
			_, _ = fmt.Sscan(many, &n)
			passes++
		}
		writes += n
	}
	return writes, passes
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
		subnet := nthPeer(inet.IPv4, n).subnet.String()
		seen := make(chan time.Time, hosts)
		var watchers []*lab.RouteWatch
		for _, h := range all {
			watchers = append(watchers, h.WatchRoute(subnet, seen))
		}
		key, value := modes[0].lease(n)
		written := time.Now()
		etcd.SetTTL(key, value, 24*time.Hour)
		for range hosts {
			select {
			case at := <-seen:
				took.milliseconds(at.Sub(written))
			case <-time.After(soon):
				b.Fatalf("a host has no route to %s", subnet)
			}
		}
		for _, w := range watchers {
			w.Stop()
		}
		time.Sleep(100 * time.Millisecond)
	}
	t := newTable(b, "newcomer", "A newcomer's lease becomes a route on every one of 24 hosts, ms",
		"newcomers", "p50", "p99 (target 15)", "slowest")
	t.row(newcomers, figure(took.quantile(0.5)), figure(took.quantile(0.99)), figure(took.quantile(1)))
}

// BenchmarkBurst: 1,000 leases change as fast as etcd takes them.
func BenchmarkBurst(b *testing.B) {
	b.ReportMetric(0, "ns/op")
	t := newTable(b, "burst", "A burst of 1,000 new leases over 1,000 present", "mode", "etcd took, ms", "last route after the last write, ms", "passes that wrote")
	for _, m := range modes[:2] {
		l, etcd := cluster(b, m, 1000)
		h := l.Host("host", "172.16.0.10/16")
		d := h.Flanneld(flags...)
		d.WaitReady()
		_, before := written(d.Log())
		began := time.Now()
		fill(etcd, m, 1000, 2000)
		filled := time.Now()
		await(b, h, 2000)
		took := time.Since(filled)
		_, passes := written(d.Log())
		t.row(m.name, filled.Sub(began).Milliseconds(), took.Milliseconds(), passes-before)
	}
}

// BenchmarkIdle: a minute in which nothing happens, with 1,000 peers. No one of them is there to
// answer probes, which takes the most packets.
func BenchmarkIdle(b *testing.B) {
	b.ReportMetric(0, "ns/op")
	t := newTable(b, "idle", "Idle for a minute, 1,000 peers", "mode", "CPU, ms", "CPU, %", "netlink writes", "etcd requests")
	for _, m := range modes[:2] {
		for _, with := range []struct {
			name  string
			flags []string
		}{{m.name, flags}, {m.name + ", no probes", append([]string{"--peer-probes=false"}, flags...)}} {
			l, etcd := cluster(b, m, 1000)
			d := l.Host("host", "172.16.0.10/16").Flanneld(with.flags...)
			d.WaitReady()
			time.Sleep(30 * time.Second) // until peers are probed
			cpu, asked := d.CPUTime(), etcd.Requests()
			before, _ := written(d.Log())
			time.Sleep(time.Minute)
			cpu = d.CPUTime() - cpu
			after, _ := written(d.Log())
			t.row(with.name, cpu.Milliseconds(), fmt.Sprintf("%.3f", 100*cpu.Seconds()/60), after-before, etcd.Requests()-asked)
		}
	}
}
