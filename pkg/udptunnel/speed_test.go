package udptunnel_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"flanneld/internal/lab"
)

// BenchmarkPath is what TCP and pings make of it between containers of two hosts,
// beside flannel 0.28's udp and a vxlan by hand. They take turns, so that a change of
// the machine's load affects all.
func BenchmarkPath(b *testing.B) {
	b.ReportMetric(0, "ns/op")
	l := lab.New(b)
	names := []string{"ours", "flannel 0.28", "vxlan"}
	paths := map[string]path{"ours": oursPath(b, l), "flannel 0.28": flannelPath(b, l), "vxlan": vxlanPath(l)}
	results := map[string]*[6][]float64{}
	for range 3 {
		for _, name := range names {
			p := paths[name]
			if results[name] == nil {
				results[name] = &[6][]float64{}
			}
			for i, measure := range []func() float64{
				func() float64 { return p.throughput(b, 1) },
				func() float64 { return p.throughput(b, 8) },
				func() float64 { return p.throughput(b, 1, "-R") },
				func() float64 { return p.datagrams(b) },
				func() float64 { return p.latency(2 * time.Millisecond) },
				func() float64 { return p.exchanges(b) },
			} {
				results[name][i] = append(results[name][i], measure())
			}
		}
	}
	b.Log("1 stream | 8 streams | back | UDP of 1,300 bytes, all Gbit/s | ping, µs | exchanges of 100 bytes a second")
	for _, name := range names {
		var cells []string
		for _, values := range results[name] {
			slices.Sort(values)
			cells = append(cells, fmt.Sprintf("%.4g (%.4g–%.4g)", values[len(values)/2], values[0], values[len(values)-1]))
		}
		b.Logf("%-14s %s", name, strings.Join(cells, " | "))
	}
}

type path struct{ from, to *lab.Container }

func oursPath(b *testing.B, l *lab.Lab) path {
	x, y := newEnd(l, 21), newEnd(l, 22)
	x.process(b, y)
	y.process(b, x)
	return reached(x.Container("c"), y.Container("c"))
}

// process starts the tunnel in a process of its own, as a daemon is one.
func (e *end) process(b *testing.B, peers ...*end) {
	b.Helper()
	line := fmt.Sprintf("flannel0 %v %v", e.external(), e.own())
	for _, r := range routesTo(peers...) {
		line += fmt.Sprintf(" %v=%v", r.Dst, r.To)
	}
	cmd := e.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+line)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	lines := bufio.NewReader(out)
	if said, err := lines.ReadString('\n'); err != nil || said != "ready\n" {
		b.Fatalf("the tunnel says %q, %v", said, err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		said, _ := lines.ReadString('\n')
		if err := cmd.Wait(); err != nil {
			b.Errorf("the tunnel ends by %v", err)
		}
		b.Log(strings.TrimSpace(said), "CPU", cmd.ProcessState.UserTime(), cmd.ProcessState.SystemTime())
	})
	e.device()
}

func flannelPath(b *testing.B, l *lab.Lab) path {
	etcd := l.EtcdOn(lab.EtcdOptions{API: 3}, l.Host("store", "10.4.7.12/24"))
	etcd.Set("/coreos.com/network/config", `{"Network":"172.7.0.0/16"}`)
	var boxes []*lab.Container
	for _, n := range []int{31, 32} {
		h := l.Host(fmt.Sprintf("flannel-%d", n), fmt.Sprintf("10.4.7.%d/24", n)).SubnetEnv(fmt.Sprintf("172.7.%d.1/24", n))
		h.FlanneldAs(func(o *lab.FlanneldOptions) { o.Binary = lab.Flannel(b) }).WaitReady()
		boxes = append(boxes, h.Container("c"))
	}
	return reached(boxes[0], boxes[1])
}

func vxlanPath(l *lab.Lab) path {
	var boxes []*lab.Container
	for _, n := range []int{41, 42} {
		h := l.Host(fmt.Sprintf("vxlan-%d", n), fmt.Sprintf("10.4.7.%d/24", n)).SubnetEnv(fmt.Sprintf("172.7.%d.1/24", n))
		h.Shell("sed -i s/MTU=1500/MTU=1450/ " + h.SubnetFile())
		other := 83 - n
		h.Shell(fmt.Sprintf(`ip link add flannel.1 address 0a:00:00:00:00:%d mtu 1450 type vxlan id 1 local 10.4.7.%[1]d dev ens33 dstport 8472 nolearning
			ip addr add 172.7.%[1]d.0/32 dev flannel.1
			ip link set flannel.1 up
			ip neigh add 172.7.%[2]d.0 lladdr 0a:00:00:00:00:%[2]d dev flannel.1 nud permanent
			bridge fdb add 0a:00:00:00:00:%[2]d dev flannel.1 dst 10.4.7.%[2]d
			ip route add 172.7.%[2]d.0/24 via 172.7.%[2]d.0 dev flannel.1 onlink`, n, other))
		boxes = append(boxes, h.Container("c"))
	}
	return reached(boxes[0], boxes[1])
}

func reached(from, to *lab.Container) path {
	from.Reach(to, soon)
	return path{from, to}
}

// throughput is iperf3's, over two seconds, in Gbit/s.
func (p path) throughput(b *testing.B, streams int, more ...string) float64 {
	b.Helper()
	return p.iperf3(b, append([]string{"-t", "2", "-P", fmt.Sprint(streams)}, more...)...)
}

// datagrams is the throughput of UDP, which nobody merges.
func (p path) datagrams(b *testing.B) float64 {
	b.Helper()
	return p.iperf3(b, "-u", "-b", "0", "-l", "1300", "-t", "2")
}

func (p path) iperf3(b *testing.B, args ...string) float64 {
	b.Helper()
	server := p.to.Command("iperf3", "-s", "-1")
	if err := server.Start(); err != nil {
		b.Fatalf("iperf3: %v: make deps installs it", err)
	}
	time.Sleep(200 * time.Millisecond)
	out := p.from.Run("iperf3", append([]string{"-J", "-c", p.to.IP.String()}, args...)...)
	_ = server.Wait()
	var report struct {
		End struct {
			Received struct {
				Rate float64 `json:"bits_per_second"`
			} `json:"sum_received"`
			Sum struct {
				Rate float64 `json:"bits_per_second"`
				Lost float64 `json:"lost_percent"`
			} `json:"sum"`
		} `json:"end"`
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		b.Fatalf("iperf3 printed %s (%v)", out, err)
	}
	if r := report.End.Received.Rate; r > 0 && args[0] != "-u" {
		return r / 1e9
	}
	return report.End.Sum.Rate * (100 - report.End.Sum.Lost) / 100 / 1e9
}

// latency is the median of some pings, in µs.
func (p path) latency(every time.Duration) float64 {
	pinger := p.from.PingEvery(every, p.to)
	time.Sleep(time.Second)
	return float64(pinger.Stop().Median.Nanoseconds()) / 1000
}

// exchanges is the number of questions of 100 bytes by UDP that are answered in a
// second, one after the other.
func (p path) exchanges(b *testing.B) float64 {
	b.Helper()
	echo := p.to.Command("python3", "-c", `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 7))
while True:
    data, peer = s.recvfrom(2000)
    s.sendto(data, peer)`)
	if err := echo.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() { _, _ = echo.Process.Kill(), echo.Wait() }()
	time.Sleep(200 * time.Millisecond)
	out := p.from.Run("python3", "-c", `
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(1)
s.connect((sys.argv[1], 7))
n, end = 0, time.time() + 1
while time.time() < end:
    s.send(b"x" * 100)
    try:
        s.recv(2000)
        n += 1
    except TimeoutError:
        pass
print(n)`, p.to.IP.String())
	var n float64
	_, _ = fmt.Sscan(out, &n)
	return n
}
