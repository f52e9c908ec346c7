package bench

import (
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"flanneld/internal/lab"
	"flanneld/pkg/wgdevice"
)

// BenchmarkModes: between containers by each backend, beside what carries packets in user space
// without flanneld. They take turns, so that a change of the machine's load affects all.
func BenchmarkModes(b *testing.B) {
	b.ReportMetric(0, "ns/op")
	kinds := []struct {
		name, by string
		pair     pair
		one      samples
		eight    samples
		ping     samples
	}{
		{name: "host-gw", by: "flanneld", pair: pairByDaemon(lab.New(b), modes[0])},
		{name: "vxlan", by: "flanneld", pair: pairByDaemon(lab.New(b), modes[1])},
		{name: "udp", by: "flanneld", pair: pairByDaemon(lab.New(b), mode{"udp", `{"Type":"udp"}`, ipv4})},
		{name: "udp", by: "flannel 0.28.10", pair: pairByFlannel(b, `{"Type":"udp"}`)},
		{name: "wireguard, user space", by: "flanneld", pair: pairByDaemon(lab.New(b), mode{"wireguard", `{"Type":"wireguard"}`, ipv4})},
		{name: "wireguard, user space", by: "wireguard-go", pair: pairByWireGuard(b)},
	}
	for range runs {
		for i := range kinds {
			k := &kinds[i]
			k.one.add(k.pair.throughput(b))
			k.eight.add(k.pair.throughput(b, "-P", "8"))
			k.ping.add(k.pair.latency())
		}
	}
	t := newTable(b, "modes", "Between containers, by each backend", "mode", "by", "TCP, one stream, Gbit/s", "eight streams, Gbit/s", "ping, µs")
	for _, k := range kinds {
		t.row(k.name, k.by, k.one, k.eight, k.ping)
	}
}

// pairByFlannel are two hosts of flannel 0.28.
func pairByFlannel(b *testing.B, backend string) pair {
	l := lab.New(b)
	etcd := l.EtcdOn(lab.EtcdOptions{API: 3}, l.Host("store", "10.4.7.12/24"))
	etcd.Set(configKey, fmt.Sprintf(`{"Network":"10.0.0.0/8","Backend":%s}`, backend))
	var boxes []*lab.Container
	for i := range 2 {
		h := l.Host(fmt.Sprintf("flannel-%d", i), fmt.Sprintf("10.4.7.%d/24", 21+i)).SubnetEnv(fmt.Sprintf("10.7.%d.1/24", 21+i))
		h.FlanneldAs(func(o *lab.FlanneldOptions) { o.Binary = lab.Flannel(b) })
		boxes = append(boxes, h.Container("c"))
	}
	p := pair{boxes[0], boxes[1]}
	p.a.Reach(p.b, soon)
	return p
}

// wireguardEnv has this program serve one WireGuard device, as its value configures it.
const wireguardEnv = "BENCH_WIREGUARD"

// pairByWireGuard are two hosts with wireguard-go alone, set up by hand.
func pairByWireGuard(b *testing.B) pair {
	l := lab.New(b)
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	key := func(n int) wgdevice.Secret { return wgdevice.Secret{0: 64, 1: byte(n), 31: 64} }
	var hosts []*lab.Host
	for n := 31; n <= 32; n++ {
		h := l.Host(fmt.Sprintf("hand-%d", n), fmt.Sprintf("10.4.7.%d/24", n)).SubnetEnv(fmt.Sprintf("10.7.%d.1/24", n))
		other := 63 - n
		c := h.Command(self)
		private, public := key(n), key(other).Public()
		c.Env = append(os.Environ(), wireguardEnv+"="+fmt.Sprintf(
			"private_key=%x\nlisten_port=51820\npublic_key=%x\nendpoint=10.4.7.%d:51820\nallowed_ip=10.7.%d.0/24\n",
			private[:], public[:], other, other))
		if err := c.Start(); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
		h.Shell(fmt.Sprintf(`for i in $(seq 100); do ip link show wg0 >/dev/null 2>&1 && break; sleep 0.05; done
			ip addr add 10.7.%d.0/32 dev wg0
			ip link set wg0 up
			ip route add 10.7.%d.0/24 dev wg0
			sed -i s/1500/1420/ %s`, n, other, h.SubnetFile()))
		hosts = append(hosts, h)
	}
	p := pair{hosts[0].Container("c"), hosts[1].Container("c")}
	p.a.Reach(p.b, soon)
	return p
}

// serveWireGuard is the program of wireguardEnv.
func serveWireGuard(config string) error {
	d, err := lab.WireGuardGo("wg0", 1420)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.IpcSetOperation(strings.NewReader(config)); err != nil {
		return err
	}
	if err := d.Up(); err != nil {
		return err
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	<-ended
	return nil
}
