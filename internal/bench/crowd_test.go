package bench

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"flanneld/internal/lab"
	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/etcdv2"
)

// BenchmarkCrowd: many daemons' lease managers start at once against one etcd.
func BenchmarkCrowd(b *testing.B) {
	b.ReportMetric(0, "ns/op")
	header("Daemons that start at once against one etcd (lease managers in one process)", "daemons", "all leased and complete after, s", "leased twice",
		"etcd requests per daemon", "CPU per daemon: etcd, ms", "manager, ms", "bytes per daemon, kB")
	for _, n := range []int{100, 300, 1000} {
		crowd(b, n)
	}
}

func crowd(b *testing.B, n int) {
	etcd := lab.StartEtcd(b, lab.EtcdOptions{})
	config, err := subnet.ParseConfig(modes[0].config)
	if err != nil {
		b.Fatal(err)
	}
	etcd.Set(configKey, modes[0].config)
	asked, served, managed, carried := etcd.Requests(), etcd.CPUTime(), cpuTime(b), loopback(b)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	var managers []*subnet.Manager
	began := time.Now()
	for i := range n {
		registry, err := etcdv2.New(etcdv2.Config{Endpoints: etcd.Endpoints(), Prefix: "/coreos.com/network"})
		if err != nil {
			b.Fatal(err)
		}
		m := subnet.NewManager(registry, subnet.Options{RenewMargin: time.Hour})
		m.Claim(subnet.Claim{Config: config, Attrs: subnet.Attrs{
			PublicIP: netip.AddrFrom4([4]byte{172, 16, byte(i >> 8), byte(i)}), BackendType: "host-gw",
		}})
		managers = append(managers, m)
		running.Go(func() { _ = m.Run(ctx) })
	}
	owners := map[netip.Prefix]int{}
	lab.Eventually(b, 5*time.Minute, "everybody to have a lease", func() error {
		clear(owners)
		for i, m := range managers {
			v := m.View()
			if !v.Own.Subnet.IsValid() || len(v.Leases) < n {
				return fmt.Errorf("number %d has %v and knows %d leases", i, v.Own.Subnet, len(v.Leases))
			}
			owners[v.Own.Subnet]++
		}
		return nil
	})
	took := time.Since(began)
	each := func(total float64) string { return fmt.Sprintf("%.1f", total/float64(n)) }
	requests, served, managed, carried := etcd.Requests()-asked, etcd.CPUTime()-served, cpuTime(b)-managed, loopback(b)-carried
	cancel()
	running.Wait()
	row(n, fmt.Sprintf("%.2f", took.Seconds()), n-len(owners), each(float64(requests)),
		each(1000*served.Seconds()), each(1000*managed.Seconds()), each(carried/1000))
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
