package bench

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"flanneld/internal/lab"
)

// BenchmarkPath: between containers, over the daemon's routes and over the same
// path set up by hand. The two take turns, so that a change of the machine's load affects both.
func BenchmarkPath(b *testing.B) {
	b.ReportMetric(0, "ns/op")
	t := newTable(b, "path", "Between containers: the daemon's path beside the same set up by hand", "mode", "iperf3 TCP by hand, Gbit/s", "by flanneld, Gbit/s", "ratio of medians",
		"ping by hand, µs", "by flanneld, µs")
	for _, m := range modes[:2] {
		l := lab.New(b)
		byDaemon, byHand := pairByDaemon(l, m), pairByHand(l, m)
		var hand, daemon, handPing, daemonPing samples
		for range runs {
			hand.add(byHand.throughput(b))
			daemon.add(byDaemon.throughput(b))
			handPing.add(byHand.latency())
			daemonPing.add(byDaemon.latency())
		}
		t.row(m.name, hand, daemon, fmt.Sprintf("%.3f", daemon.median()/hand.median()), handPing, daemonPing)
	}
}

type pair struct{ a, b *lab.Container }

func pairByDaemon(l *lab.Lab, m mode) pair {
	etcd := l.EtcdOn(lab.EtcdOptions{}, l.Host("store", "10.4.7.12/24"))
	etcd.Set(configKey, m.config())
	var boxes []*lab.Container
	for i := range 2 {
		h := l.Host(fmt.Sprintf("daemon-%d", i), fmt.Sprintf("10.4.7.%d/24", 21+i)).SubnetEnv(fmt.Sprintf("10.7.%d.1/24", 21+i))
		h.Flanneld(flags...).WaitReady()
		boxes = append(boxes, h.Container("c"))
	}
	p := pair{boxes[0], boxes[1]}
	p.a.Reach(p.b, soon)
	return p
}

func pairByHand(l *lab.Lab, m mode) pair {
	var hosts []*lab.Host
	for i := range 2 {
		h := l.Host(fmt.Sprintf("hand-%d", i), fmt.Sprintf("10.4.7.%d/24", 31+i)).SubnetEnv(fmt.Sprintf("10.7.%d.1/24", 31+i))
		hosts = append(hosts, h)
		if !m.hasDevice() {
			h.Run("ip", "route", "add", fmt.Sprintf("10.7.%d.0/24", 32-i), "via", fmt.Sprintf("10.4.7.%d", 32-i), "dev", "ens33")
			continue
		}
		h.Shell(fmt.Sprintf("sed -i s/1500/1450/ %s", h.SubnetFile()))
		h.Shell(fmt.Sprintf(`ip link add flannel.1 address 0a:00:00:00:00:%d mtu 1450 type vxlan id 1 local 10.4.7.%d dev ens33 dstport 8472 nolearning
			ip addr add 10.7.%d.0/32 dev flannel.1
			ip link set flannel.1 up
			ip neigh add 10.7.%d.0 lladdr 0a:00:00:00:00:%d dev flannel.1 nud permanent
			bridge fdb add 0a:00:00:00:00:%d dev flannel.1 dst 10.4.7.%d
			ip route add 10.7.%d.0/24 via 10.7.%d.0 dev flannel.1 onlink`, 31+i, 31+i, 31+i, 32-i, 32-i, 32-i, 32-i, 32-i, 32-i))
	}
	p := pair{hosts[0].Container("c"), hosts[1].Container("c")}
	p.a.Reach(p.b, soon)
	return p
}

// throughput is iperf3's, over two seconds, in Gbit/s.
func (p pair) throughput(b *testing.B, flags ...string) float64 {
	server := p.b.Command("iperf3", "-s", "-1")
	if err := server.Start(); err != nil {
		b.Fatalf("iperf3: %v: make deps installs it", err)
	}
	time.Sleep(200 * time.Millisecond)
	out := p.a.Run("iperf3", append([]string{"-c", p.b.IP.String(), "-t", "2", "-J"}, flags...)...)
	_ = server.Wait()
	var report struct {
		End struct {
			Received struct {
				Rate float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || report.End.Received.Rate == 0 {
		b.Fatalf("iperf3 printed %s (%v)", out, err)
	}
	return report.End.Received.Rate / 1e9
}

// latency is the median of some pings, in µs.
func (p pair) latency() float64 {
	pinger := p.a.PingEvery(2*time.Millisecond, p.b)
	time.Sleep(time.Second)
	return float64(pinger.Stop().Median.Nanoseconds()) / 1000
}
