package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"flanneld/internal/lab"
)

// floor is how fast iproute2 makes the same objects as the daemon: what the kernel
// itself takes, and a batch that thinks of nothing.
type floor struct{ ip, bridge string }

// tunnel makes the device of both tunnels.
const tunnel = "link add flannel.1 address 0a:00:00:00:ff:ff mtu 1450 type vxlan id 1 local 172.16.0.9 dev ens33 dstport 8472 nolearning\n" +
	"addr add 10.200.0.0/32 dev flannel.1\nlink set flannel.1 up\n"

// newFloor writes the batches for n peers: of plain routes, or of nexthop objects and
// routes over them. Plain routes over one device cost quadratic time in the kernel,
// whose hash of gateways is by device.
func newFloor(b *testing.B, m mode, n int, nexthops bool) floor {
	var ip, fdb strings.Builder
	if m.name != "host-gw" {
		ip.WriteString(tunnel)
	}
	for i := range n {
		p := nthPeer(i)
		via := fmt.Sprintf("via %s dev ens33", p.ip)
		if m.name == "vxlan" {
			via = fmt.Sprintf("via %s dev flannel.1 onlink", p.vtep)
			fmt.Fprintf(&fdb, "fdb add %s dev flannel.1 dst %s self permanent\n", p.mac, p.ip)
			fmt.Fprintf(&ip, "neigh add %s lladdr %s dev flannel.1 nud permanent\n", p.vtep, p.mac)
		}
		if nexthops {
			fmt.Fprintf(&ip, "nexthop add id %d %s proto 77\nroute add %s nhid %d proto 77\n", i+1, via, p.subnet, i+1)
		} else {
			fmt.Fprintf(&ip, "route add %s %s proto 77\n", p.subnet, via)
		}
	}
	f := floor{filepath.Join(b.TempDir(), "ip"), ""}
	write(b, f.ip, ip.String())
	if fdb.Len() > 0 {
		f.bridge = filepath.Join(b.TempDir(), "bridge")
		write(b, f.bridge, fdb.String())
	}
	return f
}

func write(b *testing.B, path, text string) {
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		b.Fatal(err)
	}
}

// take runs the batches on a new host, and clears up behind them.
func (f floor) take(l *lab.Lab) time.Duration {
	h := l.Host("floor", "172.16.0.9/16")
	began := time.Now()
	h.Run("ip", "-batch", f.ip)
	if f.bridge != "" {
		h.Run("bridge", "-batch", f.bridge)
	}
	took := time.Since(began)
	h.LinkDown()
	return took
}
