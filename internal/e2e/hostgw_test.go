package e2e

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"flanneld/internal/lab"
)

func TestHostGW(t *testing.T) {
	c := start(t, hostGW, "hdss7-21", "hdss7-22")
	h21, h22 := c.hosts[0], c.hosts[1]
	for _, n := range c.hosts {
		n.daemon.WaitReady()
	}

	for _, n := range c.hosts {
		key := leases + strings.Replace(n.subnet, "/", "-", 1)
		lease := c.etcd.Get(key)
		if lease == nil {
			t.Fatalf("no key %s; there are %v", key, c.etcd.Keys(leases))
		}
		if want := `{"PublicIP":"` + n.IP.String() + `","BackendType":"host-gw"}`; lease.Value != want {
			t.Errorf("%s holds %s, want %s", key, lease.Value, want)
		}
		if lease.TTL < 86400-60 || lease.TTL > 86400 {
			t.Errorf("%s lives for %d s, want 86400 s", key, lease.TTL)
		}
		first := strings.Replace(n.subnet, ".0/", ".1/", 1)
		want := "FLANNEL_NETWORK=172.7.0.0/16\nFLANNEL_SUBNET=" + first + "\nFLANNEL_MTU=1500\nFLANNEL_IPMASQ=false\n"
		if got := read(t, n.SubnetFile()); got != want {
			t.Errorf("subnet file of %s:\n%s", n, got)
		}
	}
	eventually(t, "the route on hdss7-21", h21.routes, "172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77")
	eventually(t, "the route on hdss7-22", h22.routes, "172.7.21.0/24 via 10.4.7.21 dev ens33 proto 77")

	server := h22.box.HTTPServer()
	h21.box.Get("http://" + h22.box.IP.String() + "/")
	if got := server.Clients(); !slices.Equal(got, []string{h21.box.IP.String()}) {
		t.Errorf("the server saw %v, want the container's own address %v", got, h21.box.IP)
	}

	// A host that joins is reached, one whose lease ends is not any more.
	c.join("hdss7-23").daemon.WaitReady()
	const both = "172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77\n172.7.23.0/24 via 10.4.7.23 dev ens33 proto 77"
	eventually(t, "the routes on hdss7-21", h21.routes, both)
	c.hosts[2].daemon.Stop()
	eventually(t, "the routes on hdss7-21", h21.routes, both)
	c.etcd.Delete(leases + "172.7.23.0-24")
	eventually(t, "the route on hdss7-21", h21.routes, "172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77")
}

func TestHealthz(t *testing.T) {
	c := start(t, hostGW)
	h := c.join("hdss7-21", "--healthz-port=2401")
	h.daemon.WaitReady()
	if got := h.Get("http://127.0.0.1:2401/healthz"); got != "flanneld is running" {
		t.Errorf("healthz says %q", got)
	}
	if got, err := h.TryGet("http://10.4.7.21:2401/other"); err == nil {
		t.Errorf("another path says %q", got)
	}
}

// Whatever ends the daemon, traffic flows on, and so it does when it starts
// again.
func TestRestartLosesNothing(t *testing.T) { restartLosesNothing(t, lab.Stacks[0]) }

func restartLosesNothing(t *testing.T, s lab.Stack) {
	for _, mode := range []string{hostGW, vxLAN} {
		t.Run(mode, func(t *testing.T) {
			c := startWith(t, s, of(s, mode), "hdss7-21", "hdss7-22")
			h := c.hosts[0]
			for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL} {
				c.losesNothing(s.String(), func() {
					h.daemon.Signal(s)
					code, want := h.daemon.Wait(soon), 0
					if s == syscall.SIGKILL {
						want = 128 + int(s)
					}
					if code != want {
						t.Errorf("%v: exit code %d, want %d:\n%s", s, code, want, h.daemon.Log())
					}
					time.Sleep(300 * time.Millisecond)
					h.daemon.Restart()
					h.daemon.WaitReady()
				})
			}
		})
	}
}
