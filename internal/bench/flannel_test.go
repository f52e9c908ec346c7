package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"flanneld/internal/lab"
	"flanneld/pkg/inet"
)

// BenchmarkFlannel: the same start, by flannel 0.28 and by flanneld, over the same
// store. It ends when the last route is there.
func BenchmarkFlannel(b *testing.B) {
	b.ReportMetric(0, "ns/op")
	const n, rounds = 4000, 3
	root, err := lab.ModuleRoot()
	if err != nil {
		b.Fatal(err)
	}
	flannel := filepath.Join(root, "build", "flannel")
	if _, err := os.Stat(flannel); err != nil {
		b.Fatalf("%v: make build/flannel", err)
	}
	l := lab.New(b)
	etcd := l.EtcdOn(lab.EtcdOptions{API: 3}, l.Host("store", "172.16.0.2/16"))
	fill(etcd, modes[0], 0, n)
	etcd.Set(configKey, modes[0].config())
	var theirs, ours samples
	for range rounds {
		h := l.Host("flannel", "172.16.0.9/16")
		d := h.FlanneldAs(func(o *lab.FlanneldOptions) { o.Binary = flannel })
		lab.Eventually(b, 5*time.Minute, "flannel's routes", func() error {
			if have := routes(h, inet.IPv4, "via"); have < n {
				time.Sleep(100 * time.Millisecond) // counting costs it time
				return fmt.Errorf("there are %d:\n%s", have, d.Log())
			}
			return nil
		})
		theirs.milliseconds(time.Since(d.Started))
		d.Kill()
		h.Cut()

		h = l.Host("host", "172.16.0.10/16")
		d = h.Flanneld(flags...)
		ours.milliseconds(d.WaitReady())
		if have := routes(h, inet.IPv4, "proto 77"); have < n {
			b.Fatalf("flanneld says that it is ready with %d routes", have)
		}
		d.Stop()
		h.Cut()
	}
	t := newTable(b, "flannel", "Start with 4,000 leases by etcd's v3 API, host-gw, in ms",
		"flannel 0.28.10", "flanneld", "flannel / flanneld (target 100)")
	t.row(theirs, ours, figure(theirs.median()/ours.median()))
	t.point("flannel", n, theirs.median())
}
