package bench

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"flanneld/internal/lab"
	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/etcdconn"
	"flanneld/pkg/subnet/etcdv2"
	"flanneld/pkg/subnet/etcdv3"
)

// BenchmarkCrowd: many daemons' lease managers, in one process, against one
// etcd: what their common start costs, what a lease more costs once all is
// idle, and what it costs when etcd goes away and comes back.
func BenchmarkCrowd(b *testing.B) {
	b.ReportMetric(0, "ns/op")
	header("Many daemons against one etcd (lease managers in one process)", "API", "daemons", "what happens", "all know it after, s", "leased twice",
		"per daemon: requests", "etcd's CPU, ms", "manager's CPU, ms", "kB on the wire", "etcd's memory, MiB", "at its peak")
	for _, api := range []int{2, 3} {
		for _, n := range []int{100, 300, 1000} {
			newCrowd(b, api, n).measure()
		}
	}
}

// crowd are lease managers and their etcd.
type crowd struct {
	*testing.B
	api      int
	etcd     *lab.Etcd
	managers []*subnet.Manager
}

type closingRegistry interface {
	subnet.Registry
	Close()
}

func newCrowd(b *testing.B, api, n int) *crowd {
	c := &crowd{B: b, api: api, etcd: lab.StartEtcd(b, lab.EtcdOptions{API: api})}
	config, err := subnet.ParseConfig(modes[0].config)
	if err != nil {
		b.Fatal(err)
	}
	c.etcd.Set(configKey, modes[0].config)
	for i := range n {
		registry, err := c.registry()
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(registry.Close)
		m := subnet.NewManager(registry, subnet.Options{RenewMargin: time.Hour})
		m.Claim(subnet.Claim{Config: config, Attrs: subnet.Attrs{
			PublicIP: netip.AddrFrom4([4]byte{172, 16, byte(i >> 8), byte(i)}), BackendType: "host-gw",
		}})
		c.managers = append(c.managers, m)
	}
	return c
}

func (c *crowd) registry() (closingRegistry, error) {
	config := etcdconn.Config{Endpoints: c.etcd.Endpoints(), Prefix: "/coreos.com/network"}
	if c.api == 3 {
		return etcdv3.New(config)
	}
	return etcdv2.New(config)
}

func (c *crowd) measure() {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	n := len(c.managers)
	c.cost("they start at once", n, func() {
		for _, m := range c.managers {
			running.Go(func() { _ = m.Run(ctx) })
		}
	})
	c.cost("one lease more", n+1, func() { c.etcd.SetTTL(nthPeer(60000).key(), nthPeer(60000).lease(modes[0]), 24*time.Hour) })
	c.cost("etcd is killed and comes back", n+1, func() {
		c.etcd.Kill()
		c.etcd.Start()
	})
	cancel()
	running.Wait()
}

// cost does something, waits until all know n leases, and prints a row.
func (c *crowd) cost(what string, n int, do func()) {
	c.quiet()
	asked, served, managed, carried := c.etcd.Requests(), c.etcd.CPUTime(), cpuTime(c.B), loopback(c.B)
	began := time.Now()
	do()
	if c.etcd.CPUTime() < served { // it has been started again
		asked, served = 0, 0
	}
	pending := slices.Clone(c.managers) // to look at all of them each time would be the most expensive of all
	lab.Eventually(c, 5*time.Minute, "everybody to have a lease", func() error {
		pending = slices.DeleteFunc(pending, func(m *subnet.Manager) bool { return complete(m.View(), n) })
		if len(pending) > 0 {
			return fmt.Errorf("%d do not", len(pending))
		}
		return nil
	})
	took := time.Since(began)
	c.quiet()
	each := func(total float64) string { return fmt.Sprintf("%.3g", total/float64(len(c.managers))) }
	row("v"+fmt.Sprint(c.api), len(c.managers), what, fmt.Sprintf("%.2f", took.Seconds()), c.duplicates(),
		each(float64(c.etcd.Requests()-asked)), each(1000*(c.etcd.CPUTime()-served).Seconds()),
		each(1000*(cpuTime(c.B)-managed).Seconds()), each((loopback(c.B)-carried)/1000), c.etcd.Memory()>>20,
		c.etcd.PeakMemory()>>20)
}

// complete reports whether a daemon has a lease, knows n, and watches for changes.
func complete(v subnet.View, n int) bool {
	return v.Own.Subnet.IsValid() && len(v.Leases) >= n && v.Current
}

// duplicates are the subnets that more than one lease manager has.
func (c *crowd) duplicates() int {
	owners := map[netip.Prefix]bool{}
	for _, m := range c.managers {
		owners[m.View().Own.Subnet] = true
	}
	return len(c.managers) - len(owners)
}

// quiet waits until requests have ceased, or for as long as that takes where a slow machine has
// enough to do with idle watches.
func (c *crowd) quiet() {
	for before, end := c.etcd.CPUTime(), time.Now().Add(15*time.Second); time.Now().Before(end); {
		time.Sleep(time.Second)
		now := c.etcd.CPUTime()
		if now-before < 50*time.Millisecond {
			return
		}
		before = now
	}
}

// cpuTime is what this process has used.
func cpuTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// loopback is how many bytes have passed over lo.
func loopback(b *testing.B) (bytes float64) {
	counters, err := os.ReadFile("/proc/net/dev")
	_, line, _ := strings.Cut(string(counters), "lo:")
	if err == nil {
		_, err = fmt.Sscan(line, &bytes)
	}
	if err != nil {
		b.Fatal(err)
	}
	return bytes
}
