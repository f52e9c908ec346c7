package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"flanneld/internal/cli"
	"flanneld/internal/lab"
	"flanneld/pkg/check"
	"flanneld/pkg/inet"
)

const (
	// promised is within what `flanneld check --all` has looked at 4,000 peers.
	promised = time.Minute
	silentOf = 10 // peers, one is silent
)

// BenchmarkCheck: a host finds out which of its peers it does not reach. One other host stands
// for all of them: it has all their addresses, and drops what is for every tenth.
func BenchmarkCheck(b *testing.B) {
	b.ReportMetric(0, "ns/op")
	t := newTable(b, "check", "`flanneld check` where every tenth peer is silent, vxlan", "peers", "command", "time, s",
		"packets sent", "at most in a second", "CPU, s", "peak memory, MiB")
	for _, n := range []int{200, 1000, 4000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			b.ReportMetric(0, "ns/op")
			h := newSeeing(b, n)
			if n == 200 {
				h.measure(b, t, n)
			}
			out, took := h.measure(b, t, n, "--all")
			var r check.Report
			if err := json.NewDecoder(bytes.NewReader(out)).Decode(&r); err != nil {
				b.Fatal(err)
			}
			if s := r.Summary; s.Peers != n || s.NotReached != n/silentOf || s.Reached != n-n/silentOf || len(r.Causes) != 1 ||
				r.Causes[0].Reason != check.HostSilent || len(r.Causes[0].Peers) != n/silentOf {
				text, _ := json.Marshal(r.Summary)
				b.Fatalf("%s; %d causes: %.2000s", text, len(r.Causes), out)
			}
			if took > promised {
				b.Errorf("%v for %d peers", took, n)
			}
		})
	}
}

// seeing is a host with very many peers.
type seeing struct{ *lab.Host }

func newSeeing(b *testing.B, n int) seeing {
	l, etcd := cluster(b, modes[1], n)
	etcd.Set(configKey, `{"Network":"10.0.0.0/8","SubnetMin":"10.99.1.0","SubnetMax":"10.99.1.0","Backend":{"Type":"vxlan"}}`)
	far, h := l.Host("far", "172.16.0.3/16"), l.Host("host", "172.16.0.10/16")
	h.Shell("ip route add 172.16.16.0/20 via 172.16.0.3; ip route add 172.16.32.0/20 via 172.16.0.3")
	d := h.Flanneld(flags...)
	d.WaitReady()
	h.Shell("ip link add docker0 up type bridge; ip address add 10.99.1.1/24 dev docker0; ip link set docker0 mtu 1450")
	far.Shell(fmt.Sprintf(`ip link add flannel.1 up mtu 1450 type vxlan id 1 dstport 8472 local 172.16.0.3 dev ens33 nolearning
		ip route add local 172.16.16.0/20 dev lo; ip route add local 172.16.32.0/20 dev lo; ip route add local 10.0.0.0/11 dev lo
		ip route add 10.99.1.0/24 via 10.99.1.0 dev flannel.1 onlink
		ip neigh add 10.99.1.0 lladdr %[1]s dev flannel.1 nud permanent
		bridge fdb add %[1]s dev flannel.1 dst 172.16.0.10`, linkOf(b, h, "flannel.1").Address))
	rules := filepath.Join(far.Dir(), "silent.nft")
	var silent []string
	for i := silentOf - 1; i < n; i += silentOf {
		silent = append(silent, nthPeer(inet.IPv4, i).ip)
	}
	text := `table netdev far {
	set silent { type ipv4_addr; elements = { ` + strings.Join(silent, ", ") + ` }; }
	chain hosts { type filter hook ingress device ens33 priority 0; ip daddr @silent drop; }
	chain tunnel { type filter hook ingress device flannel.1 priority 0; meta pkttype set host; }
}
`
	if err := os.WriteFile(rules, []byte(text), 0o644); err != nil {
		b.Fatal(err)
	}
	far.Run("nft", "-f", rules)
	return seeing{h}
}

// link is what `ip -s -j link show` tells.
type link struct {
	Address string
	Stats64 struct{ Tx struct{ Packets int } }
}

func linkOf(b *testing.B, h *lab.Host, name string) link {
	var all []link
	if err := json.Unmarshal([]byte(h.Run("ip", "-s", "-j", "link", "show", name)), &all); err != nil || len(all) != 1 {
		b.Fatalf("%s of %s: %v", name, h, err)
	}
	return all[0]
}

// measure runs a check, which must find a fault, and adds a row.
func (h seeing) measure(b *testing.B, t *table, peers int, more ...string) (out []byte, took time.Duration) {
	sent := func() int { return linkOf(b, h.Host, "ens33").Stats64.Tx.Packets }
	cmd := h.Command(lab.Binary(b), append([]string{"check", "-o", "json"}, more...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	before, began := sent(), time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- cmd.Wait() }()
	memory, most, last, tick := 0, 0, before, time.NewTicker(time.Second)
	defer tick.Stop()
	for running := true; running; {
		select {
		case <-ended:
			running = false
		case <-time.After(20 * time.Millisecond):
			if kB := peakMemory(cmd.Process.Pid); kB > 0 {
				memory = kB
			}
			continue
		case <-tick.C:
		}
		now := sent()
		most, last = max(most, now-last), now
	}
	took = time.Since(began)
	if code := cmd.ProcessState.ExitCode(); code != cli.Failed {
		b.Fatalf("exit code %d: %s", code, stderr.String())
	}
	cpu := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	t.row(thousands(peers), "`"+strings.Join(append([]string{"check"}, more...), " ")+"`", figure(took.Seconds()),
		thousands(last-before), thousands(most), figure(cpu.Seconds()), thousands(memory>>10))
	return stdout.Bytes(), took
}

// peakMemory is the most that a running process has held so far, in kB; 0: it has ended.
func peakMemory(pid int) (kB int) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if _, rest, found := strings.Cut(string(text), "VmHWM:"); found {
		_, _ = fmt.Sscan(rest, &kB)
	}
	return kB
}
