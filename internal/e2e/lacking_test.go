package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"flanneld/internal/lab"
)

// lacking has the iptables of a host meet a kernel without these parts.
func (w *walled) lacking(t *testing.T, names ...string) *lab.Lacking {
	t.Helper()
	kernel, err := lab.NewLacking(t.TempDir(), names...)
	if err != nil {
		t.Fatal(err)
	}
	w.more = kernel.Env
	return kernel
}

// TestKernelWithoutComments: rules have no comment where the kernel has none (no
// CONFIG_NETFILTER_XT_MATCH_COMMENT), and packets pass; nothing is written twice, and
// there is no gap where the module comes.
func TestKernelWithoutComments(t *testing.T) {
	t.Parallel()
	for _, flavour := range lab.IPTablesFlavours {
		t.Run(flavour, func(t *testing.T) {
			c := start(t, hostGW)
			h21, h22 := c.wall("hdss7-21", flavour), c.wall("hdss7-22", flavour)
			var kernels []*lab.Lacking
			for _, h := range []*walled{h21, h22} {
				h.iptables("iptables -P FORWARD DROP")
				kernels = append(kernels, h.lacking(t, "comment"))
				h.start("--ip-masq")
				h.box = h.Container("c1")
			}
			c.connected(soon)
			inPlace := func(moment string, comments int) {
				t.Helper()
				eventually(t, moment+", it is", h21.readiness, "ready")
				eventually(t, moment+", the rules", func() string {
					return h21.rules("nat", "POSTROUTING") + h21.rules("filter", "FORWARD") + fmt.Sprint(strings.Count(h21.iptables("iptables-save"), "--comment"))
				}, masqRules(t)+"-P FORWARD DROP"+forwardRules(t)+fmt.Sprint(comments))
				if n := strings.Count(h21.daemon.Log(), "Wrote firewall rules"); n > 2 {
					t.Errorf("%s, rules were written %d times:\n%s", moment, n, h21.daemon.Log())
				}
			}
			inPlace("at first", 0)
			c.losesNothing("a restart", func() {
				h21.daemon.Stop()
				h21.start("--ip-masq")
				inPlace("after a restart", 0)
			})
			c.losesNothing("the module is loaded", func() {
				if err := kernels[0].Set(); err != nil {
					t.Fatal(err)
				}
				h21.daemon.Stop()
				h21.start("--ip-masq")
				inPlace("with the module", 6)
			})
			h21.daemon.Stop()
			h21.start("--iptables-forward-rules=false")
			eventually(t, "what is left", func() string { return h21.iptables("iptables-save | grep -c 172.7.0.0 || true") }, "0")

			h22.daemon.Stop() // a host whose rules have no comments either
			h22.start("--iptables-forward-rules=false")
			eventually(t, "what is left without comments", func() string { return h22.iptables("iptables-save | grep -c 172.7.0.0 || true") }, "0")
		})
	}
}

// TestKernelWithoutMasquerading: what has no other way is named, with what brings it
// about, and the host is not ready; routes are there, and it goes on by itself.
func TestKernelWithoutMasquerading(t *testing.T) {
	t.Parallel()
	for _, flavour := range lab.IPTablesFlavours {
		t.Run(flavour, func(t *testing.T) {
			c := start(t, hostGW)
			h21, h22 := c.joinWalled("hdss7-21", flavour), c.wall("hdss7-22", flavour)
			kernel := h22.lacking(t, "MASQUERADE")
			h22.begin("--ip-masq", "--v=0")
			lab.Eventually(t, soon, "the reason", func() error {
				status, err := h22.Try("curl", "-s", "http://127.0.0.1:2401/readyz")
				if !strings.Contains(status, "xt_MASQUERADE, or use a kernel with CONFIG_") {
					return fmt.Errorf("%s, %v", status, err)
				}
				return nil
			})
			eventually(t, "the route", func() string { return fmt.Sprint(strings.Contains(h22.Run("ip", "route"), h21.subnet)) }, "true")
			if n := strings.Count(h22.daemon.Log(), `condition="FirewallNotApplied"`); n != 1 {
				t.Errorf("%d lines about it:\n%s", n, h22.daemon.Log())
			}
			if out, err := h22.Try(lab.Binary(t), "check", h21.subnet); !strings.Contains(out, "fix:          modprobe ") {
				t.Errorf("check, %v:\n%s", err, out)
			}
			if err := kernel.Set(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "with the module, it is", h22.readiness, "ready")
			h22.box = h22.Container("c1")
			c.connected(soon)
		})
	}
}

// TestOperatorsSNAT: an operator's SNAT is in effect for what leaves the network, whenever
// and wherever he puts it, and containers see each other's own addresses.
func TestOperatorsSNAT(t *testing.T) {
	t.Parallel()
	for _, flavour := range lab.IPTablesFlavours {
		for _, firewall := range []string{"iptables", "nftables"} {
			t.Run(flavour+" "+firewall, func(t *testing.T) {
				c := start(t, hostGW)
				h21, h22 := c.wall("hdss7-21", flavour), c.joinWalled("hdss7-22", flavour)
				web := c.Host("web", "10.4.7.80/24")
				outer := web.HTTPServer()
				h21.Shell("ip addr add 10.4.7.99/24 dev ens33; ip addr add 10.4.7.98/24 dev ens33")
				h21.iptables("iptables -t nat -A POSTROUTING -s 172.7.0.0/16 -o ens33 -j SNAT --to-source 10.4.7.99")
				h21.start("--ip-masq", "--firewall="+firewall)
				h21.box = h21.Container("c1")
				inner := h22.box.HTTPServer()
				c.connected(soon)
				seen := func(moment, inside, outside string) {
					t.Helper()
					get := func(url string) string {
						page, err := h21.box.TryGet(url)
						if err != nil {
							return err.Error()
						}
						return strings.TrimSpace(page)
					}
					eventually(t, moment+", a container sees", func() string { return get(inner.URL) }, "hello, "+inside)
					eventually(t, moment+", outside is seen", func() string { return get(outer.URL) }, "hello, "+outside)
				}
				seen("there first", "172.7.21.2", "10.4.7.99")
				h21.iptables("iptables -t nat -F POSTROUTING")
				seen("without", "172.7.21.2", "10.4.7.21")
				h21.iptables("iptables -t nat -A POSTROUTING -s 172.7.0.0/16 -o ens33 -j SNAT --to-source 10.4.7.98")
				seen("appended", "172.7.21.2", "10.4.7.98")
				h21.iptables("iptables -t nat -I POSTROUTING -s 172.7.0.0/16 -o ens33 -j SNAT --to-source 10.4.7.99")
				seen("inserted", "172.7.21.2", "10.4.7.99")
				h21.iptables("iptables -t nat -I POSTROUTING -s 172.7.21.0/24 ! -o docker0 -j MASQUERADE")
				seen("behind docker's", "172.7.21.2", "10.4.7.21")
				// A write is logged once it has been seen in place, which packets do not wait for.
				const looked = 2500 * time.Millisecond // flanneld has looked at its rules again
				time.Sleep(looked)
				rules := h21.iptables("iptables-save -t nat | grep -v '^[#:]'")
				writes := strings.Count(h21.daemon.Log(), "Wrote firewall rules")
				time.Sleep(looked)
				if now := h21.iptables("iptables-save -t nat | grep -v '^[#:]'"); now != rules || strings.Count(h21.daemon.Log(), "Wrote firewall rules") != writes {
					t.Errorf("it goes on writing; the rules were\n%s\nand are\n%s", rules, now)
				}
				if out, err := h21.Try(lab.Binary(t), "check", "172.7.22.0/24"); strings.Contains(out, "see this host's address") {
					t.Errorf("check, %v:\n%s", err, out)
				}
			})
		}
	}
}
