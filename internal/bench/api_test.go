package bench

import (
	"fmt"
	"testing"
	"time"

	"flanneld/internal/lab"
)

// BenchmarkAPIs shows what etcd's APIs cost in memory and processor time.
func BenchmarkAPIs(b *testing.B) {
	for _, api := range []int{2, 3} {
		for _, n := range []int{250, 4000} {
			b.Run(fmt.Sprintf("v%d/%d", api, n), func(b *testing.B) {
				l := lab.New(b)
				etcd := l.EtcdOn(lab.EtcdOptions{API: api}, l.Host("store", "172.16.0.2/16"))
				fill(etcd, modes[1], 0, n)
				etcd.Set(configKey, modes[1].config)
				h := l.Host("host", "172.16.0.10/16")
				for b.Loop() {
					d := h.Flanneld("--iptables-forward-rules=false")
					took := d.WaitReady()
					time.Sleep(time.Second)
					b.Logf("ready after %v, cpu %v, memory %d KiB", took, d.CPUTime(), d.MaxRSS()>>10)
					d.Stop()
				}
			})
		}
	}
}
