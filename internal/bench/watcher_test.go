package bench

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"flanneld/internal/lab"
	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/etcdconn"
	"flanneld/pkg/subnet/etcdv2"
	"flanneld/pkg/subnet/etcdv3"
)

// BenchmarkWatcher: what a daemon's watch costs etcd in memory while nothing happens.
// They are opened one after the other, as etcd's memory after a crowd's start is mostly
// garbage; the figure is the slope between two numbers of them.
func BenchmarkWatcher(b *testing.B) {
	b.ReportMetric(0, "ns/op")
	found := newTable(b, "watch", "etcd's memory for a watch, KiB (all members together)",
		"watch", "goroutines", "their stacks", "memory once it stands", "after two idle minutes")
	for _, tt := range []struct {
		name    string
		options lab.EtcdOptions
		tls     bool
		open    func(*testing.B, context.Context, etcdconn.Config)
	}{
		{"v2", lab.EtcdOptions{}, false, watchV2},
		{"v3", lab.EtcdOptions{}, false, watchV3},
		{"v3, a plain client of etcd's", lab.EtcdOptions{}, false, watchPlain},
		{"v3, TLS", lab.EtcdOptions{}, true, watchV3},
		{"v3, three members", lab.EtcdOptions{Members: []lab.EtcdMember{{IP: "127.0.4.1"}, {IP: "127.0.4.2"}, {IP: "127.0.4.3"}}}, false, watchV3},
	} {
		b.Run(tt.name, func(b *testing.B) {
			b.ReportMetric(0, "ns/op")
			config := etcdconn.Config{Prefix: "/coreos.com/network"}
			if tt.tls {
				ca := lab.NewCA(b, "ca")
				cert := ca.Client("flannel", time.Hour)
				tt.options.TLS = ca
				config.CAFile, config.CertFile, config.KeyFile = ca.File, cert.CertFile, cert.KeyFile
			}
			etcd := lab.StartEtcd(b, tt.options)
			config.Endpoints = etcd.Endpoints()
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel() // before the Registries are closed
			const few, many = 100, 600
			var from, to, idle costs
			for n := range many {
				if n == few {
					from = costsOf(etcd)
				}
				tt.open(b, ctx, config)
				time.Sleep(10 * time.Millisecond)
			}
			to = costsOf(etcd)
			time.Sleep(2 * time.Minute)
			idle = costsOf(etcd)
			each := func(before, after float64) string { return fmt.Sprintf("%.0f", (after-before)/(many-few)) }
			found.row(tt.name, each(from.goroutines, to.goroutines), each(from.stacks, to.stacks), each(from.memory, to.memory), each(from.memory, idle.memory))
		})
	}
}

// costs are in KiB.
type costs struct{ goroutines, stacks, memory float64 }

func costsOf(etcd *lab.Etcd) costs {
	time.Sleep(time.Second)
	return costs{
		goroutines: etcd.Metric("go_goroutines"), stacks: etcd.Metric("go_memstats_stack_inuse_bytes") / 1024,
		memory: float64(etcd.Memory()) / 1024,
	}
}

func watchV2(b *testing.B, ctx context.Context, c etcdconn.Config) {
	r, err := etcdv2.New(c)
	watch(b, ctx, r, err)
}

func watchV3(b *testing.B, ctx context.Context, c etcdconn.Config) {
	r, err := etcdv3.New(c)
	watch(b, ctx, r, err)
}

// watch begins a watch until ctx ends, and waits until it stands.
func watch(b *testing.B, ctx context.Context, r interface {
	subnet.Registry
	Close()
}, err error) {
	if err != nil {
		b.Fatal(err)
	}
	listed, err := r.List(ctx)
	if err != nil {
		b.Fatal(err)
	}
	var watching sync.WaitGroup
	stands, ended := make(chan struct{}), make(chan error, 1)
	once := sync.OnceFunc(func() { close(stands) })
	watching.Go(func() { ended <- r.Watch(ctx, listed.Index, func([]subnet.Event) { once() }) })
	b.Cleanup(func() {
		watching.Wait()
		r.Close()
	})
	select {
	case <-stands:
	case err := <-ended:
		b.Fatal(err)
	}
}

// watchPlain is the least that a client can do: a connection and a watch.
func watchPlain(b *testing.B, ctx context.Context, c etcdconn.Config) {
	client, err := clientv3.New(clientv3.Config{Endpoints: c.Endpoints, Logger: zap.NewNop()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = client.Close() })
	<-client.Watch(ctx, c.Prefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
}
