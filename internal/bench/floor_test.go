package bench

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"flanneld/internal/lab"
	"flanneld/pkg/inet"
)

// floor is how fast iproute2 makes the same objects as the daemon: what the kernel
// itself takes, and a batch that thinks of nothing.
type floor struct{ host, ip, bridge string }

// newFloor writes the batches for n peers: of plain routes, or of nexthop objects and
// routes over them. Plain routes over one device cost quadratic time in the kernel,
// whose hash of gateways is by device.
func newFloor(b *testing.B, m mode, n int, nexthops bool) floor {
	var ip, fdb strings.Builder
	id := 0
	for _, f := range m.families {
		dev := plans[f].device
		if m.hasDevice() {
			ip.WriteString(tunnel(f))
		}
		for i := range n {
			p := nthPeer(f, i)
			via := fmt.Sprintf("via %s dev ens33", p.ip)
			if m.tunnels() {
				via = fmt.Sprintf("via %s dev %s onlink", p.vtep, dev)
				fmt.Fprintf(&fdb, "fdb add %s dev %s dst %s self permanent\n", p.mac, dev, p.ip)
				fmt.Fprintf(&ip, "neigh add %s lladdr %s dev %s nud permanent\n", p.vtep, p.mac, dev)
			}
			if id++; nexthops {
				fmt.Fprintf(&ip, "nexthop add id %d %s proto 77\nroute add %s nhid %d proto 77\n", id, via, p.subnet, id)
			} else {
				fmt.Fprintf(&ip, "route add %s %s proto 77\n", p.subnet, via)
			}
		}
	}
	f := floor{m.host(9), filepath.Join(b.TempDir(), "ip"), ""}
	write(b, f.ip, ip.String())
	if fdb.Len() > 0 {
		f.bridge = filepath.Join(b.TempDir(), "bridge")
		write(b, f.bridge, fdb.String())
	}
	return f
}

// tunnel makes a family's device.
func tunnel(f inet.Family) string {
	p := plans[f]
	local, _, _ := strings.Cut(fmt.Sprintf(p.host, 9), "/")
	own := netip.MustParseAddr(fmt.Sprintf(p.vtep, 200, 0))
	text := fmt.Sprintf("link add %s address %s mtu %d type vxlan id 1 local %s dev ens33 dstport 8472 nolearning\n",
		p.device, fmt.Sprintf(p.mac, 255, 255), 1500-p.overhead, local)
	return text + fmt.Sprintf("addr add %s/%d dev %s\nlink set %s up\n", own, own.BitLen(), p.device, p.device)
}

func write(b *testing.B, path, text string) {
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		b.Fatal(err)
	}
}

// take runs the batches on a new host, and clears up behind them.
func (f floor) take(l *lab.Lab) time.Duration {
	h := l.Host("floor", f.host)
	began := time.Now()
	h.Run("ip", "-batch", f.ip)
	if f.bridge != "" {
		h.Run("bridge", "-batch", f.bridge)
	}
	took := time.Since(began)
	h.LinkDown()
	return took
}
