package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"flanneld/internal/docs"
	"flanneld/internal/lab"
)

// walled is a node whose iptables is of one flavour.
type walled struct {
	*node
	path string // environment variable
	more []string
}

// joinWalled is join with an iptables, and waits for the daemon.
func (c *cluster) joinWalled(name, flavour string, flags ...string) *walled {
	c.t.Helper()
	w := c.wall(name, flavour)
	w.start(flags...)
	w.box = w.Container("c1")
	return w
}

// wall adds a host with an iptables, and starts nothing.
func (c *cluster) wall(name, flavour string) *walled {
	c.t.Helper()
	number := strings.TrimPrefix(name, "hdss7-")
	h := c.Host(name, "10.4.7."+number+"/24").SubnetEnv("172.7." + number + ".1/24")
	bin := filepath.Join(h.Dir(), "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		c.t.Fatal(err)
	}
	if err := lab.IPTablesAs(flavour, bin); err != nil {
		c.t.Fatal(err)
	}
	w := &walled{node: &node{Host: h, subnet: "172.7." + number + ".0/24"}, path: "PATH=" + bin + ":" + os.Getenv("PATH")}
	c.hosts = append(c.hosts, w.node)
	return w
}

func (w *walled) start(flags ...string) {
	w.begin(flags...)
	w.daemon.WaitReady()
}

// begin is start without the wait.
func (w *walled) begin(flags ...string) {
	w.daemon = w.FlanneldAs(func(o *lab.FlanneldOptions) {
		o.Args = append(o.Args, "--iptables-resync=1", "--healthz-port=2401")
		o.Args = append(o.Args, flags...)
		o.Env = append([]string{w.path}, w.more...)
	})
}

// iptables runs a script of iptables lines on the node.
func (w *walled) iptables(lines string) string {
	return w.Shell("set -e\n" + w.path + "\n" + lines)
}

// rules are those of a chain as iptables prints them, but for the comment by
// which flanneld knows its own.
func (w *walled) rules(table, chain string) string {
	rules := w.iptables("iptables -t " + table + " -S " + chain)
	return strings.ReplaceAll(rules, ourComment, "")
}

// masqRules and forwardRules are those that docs/firewall.md shows, but for the comment.
func masqRules(t *testing.T) string {
	t.Helper()
	return "-P POSTROUTING ACCEPT" + shownRules(docs.Containing(t, "docs/firewall.md", "iptables -t nat -S POSTROUTING"))
}

func forwardRules(t *testing.T) string {
	t.Helper()
	return shownRules(docs.Containing(t, "docs/firewall.md", "iptables -S FORWARD"))
}

func shownRules(b docs.Block) (rules string) {
	for line := range strings.Lines(b.Text) {
		if strings.HasPrefix(line, "-A ") {
			rules += "\n" + strings.TrimSuffix(strings.ReplaceAll(line, ourComment, ""), "\n")
		}
	}
	return rules
}

const ourComment = " -m comment --comment flanneld"

// TestIPMasq is the same traffic with each kind of rules: those of iptables are
// what flannel users know, those of nftables do the same.
func TestIPMasq(t *testing.T) {
	t.Parallel()
	for _, flavour := range lab.IPTablesFlavours {
		for _, firewall := range []string{"iptables", "nftables"} {
			t.Run(flavour+" "+firewall, func(t *testing.T) {
				testIPMasq(t, flavour, firewall)
			})
		}
	}
}

func testIPMasq(t *testing.T, flavour, firewall string) {
	c := start(t, hostGW)
	flags := []string{"--ip-masq", "--firewall=" + firewall}
	h21, h22 := c.joinWalled("hdss7-21", flavour, flags...), c.joinWalled("hdss7-22", flavour, flags...)
	inner := h22.box.HTTPServer()
	gateway := c.Router("gateway", "10.4.7.254/24", "10.4.8.254/24") // which knows no way to containers
	web := c.Host("web", "10.4.8.80/24")
	outer := web.HTTPServer()
	c.connected(soon)
	all := func(moment string) {
		t.Helper()
		if firewall == "iptables" {
			eventually(t, moment+": the rules of nat", func() string { return h21.rules("nat", "POSTROUTING") }, masqRules(t))
			eventually(t, moment+": the rules of filter", func() string {
				_, rules, _ := strings.Cut(h21.rules("filter", "FORWARD"), "\n")
				return "\n" + rules
			}, forwardRules(t))
		} else {
			eventually(t, moment+": the chains of nftables", func() string { return h21.chains() }, "keep masquerade prerouting")
		}
		h21.box.Get(inner.URL)
		h21.box.Get(outer.URL)
		h21.Get(inner.URL)
	}
	// dockerd that was not told --ip-masq=false; its rule is not to be met.
	h21.iptables("iptables -t nat -A POSTROUTING -s 172.7.21.0/24 ! -d 10.4.8.0/24 ! -o docker0 -j MASQUERADE")
	if firewall == "iptables" {
		h21.iptables("iptables -t nat -F")
	}
	all("at first")
	if firewall == "iptables" {
		byHand := func(s docs.Step) (string, error) { return h21.Try("sh", "-c", h21.path+"\n"+s.Command) }
		prints(t, docs.Containing(t, "docs/firewall.md", "iptables -t nat -S POSTROUTING"), byHand)
		prints(t, docs.Containing(t, "docs/firewall.md", "iptables -S FORWARD"), byHand)
		h21.iptables("iptables -t nat -F\niptables -F")
	} else {
		h21.Shell("nft delete table ip flanneld")
	}
	all("after a flush")
	for _, h := range []*walled{h21, h22} {
		h.iptables("iptables -P FORWARD DROP")
		eventually(t, "the rules against the policy", func() string {
			_, rules, _ := strings.Cut(h.rules("filter", "FORWARD"), "\n")
			return "\n" + rules
		}, forwardRules(t))
	}
	all("with the policy DROP")
	h21.daemon.Stop()
	all("without a daemon")

	// From outside, by way of the container's host and by way of another.
	gateway.Shell("ip route add 172.7.22.0/24 via 10.4.7.22")
	web.Get(inner.URL)
	gateway.Shell("ip route replace 172.7.22.0/24 via 10.4.7.21")
	web.Get(inner.URL)

	one := []string{"172.7.21.2", "10.4.7.21"} // the container as it is; its host
	if got, want := inner.Clients(), append(slices.Repeat(one, 4), "10.4.8.80", "10.4.7.21"); !slices.Equal(got, want) {
		t.Errorf("the container's server saw\n%v, want\n%v", got, want)
	}
	if got, want := outer.Clients(), slices.Repeat(one[1:], 4); !slices.Equal(got, want) {
		t.Errorf("the server outside saw %v, want %v", got, want)
	}
}

// chains are those of flanneld's own table of nftables, in order.
func (w *walled) chains() string {
	table, err := w.Try("nft", "list", "table", "ip", "flanneld")
	if err != nil {
		return "no table"
	}
	var out []string
	for _, m := range regexp.MustCompile(`(?m)^\tchain (\w+) `).FindAllStringSubmatch(table, -1) {
		out = append(out, m[1])
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// TestFirewallSwitch changes between iptables and nftables by the config key, and
// back, under traffic; nothing of the former is left.
func TestFirewallSwitch(t *testing.T) {
	t.Parallel()
	for _, flavour := range lab.IPTablesFlavours {
		t.Run(flavour, func(t *testing.T) {
			c := start(t, hostGW)
			h21, h22 := c.joinWalled("hdss7-21", flavour, "--ip-masq"), c.joinWalled("hdss7-22", flavour, "--ip-masq")
			c.connected(soon)
			byNFTables := strings.Replace(hostGW, "{", `{"EnableNFTables": true, `, 1)
			for _, step := range []struct{ config, nat, chains string }{
				{byNFTables, "-P POSTROUTING ACCEPT", "keep masquerade prerouting"},
				{hostGW, masqRules(t), "no table"},
				{byNFTables, "-P POSTROUTING ACCEPT", "keep masquerade prerouting"},
			} {
				c.losesNothing(step.config, func() {
					c.etcd.Set(configKey, step.config)
					eventually(t, step.config+": the rules of nat", func() string { return h21.rules("nat", "POSTROUTING") }, step.nat)
					eventually(t, step.config+": the chains of nftables", h21.chains, step.chains)
				})
			}
			if rules := h21.iptables("iptables-save"); strings.Contains(rules, "flanneld") {
				t.Errorf("left behind:\n%s", rules)
			}
			h21.daemon.Stop()
			h21.start("--firewall=iptables")
			eventually(t, "the flag has its way", func() string { return h21.chains() + h21.rules("nat", "POSTROUTING") }, "no table-P POSTROUTING ACCEPT")
			_ = h22
		})
	}
}

// TestNoIPTables: a host without the program gets its rules by nftables.
func TestNoIPTables(t *testing.T) {
	c := start(t, vxLAN)
	bin := t.TempDir()
	for _, number := range []string{"21", "22"} {
		h := c.Host("hdss7-"+number, "10.4.7."+number+"/24").SubnetEnv("172.7." + number + ".1/24")
		w := &walled{node: &node{Host: h, subnet: "172.7." + number + ".0/24"}}
		w.daemon = h.FlanneldAs(func(o *lab.FlanneldOptions) {
			// Neither PATH nor sbin has it.
			o.Args = append([]string{"-c", hidingIPTables, "sh", lab.Binary(t)}, append(o.Args, "--ip-masq")...)
			o.Binary, o.Env = "/bin/sh", []string{"PATH=" + bin}
		})
		w.daemon.WaitReady()
		w.box = w.Container("c1")
		c.hosts = append(c.hosts, w.node)
	}
	c.connected(soon)
	for _, n := range c.hosts {
		eventually(t, "the chains of nftables", (&walled{node: n}).chains, "keep masquerade prerouting")
	}
}

// hidingIPTables hides iptables in a mount namespace of its own.
const hidingIPTables = `/usr/bin/unshare -m /bin/sh -c '
	/usr/bin/mount -t tmpfs none /usr/local/sbin
	for f in /usr/sbin/iptables*; do /usr/bin/mount --bind /dev/null "$f"; done
	exec "$@"' sh "$@"`

// TestFirewall is step 6 of the tutorial on lab containers: behind CentOS's rules
// and docker's, with flanneld's and without them.
func TestFirewall(t *testing.T) {
	t.Parallel()
	for _, flavour := range lab.IPTablesFlavours {
		t.Run(flavour, func(t *testing.T) {
			c := start(t, hostGW)
			h21, h22 := c.joinWalled("hdss7-21", flavour), c.joinWalled("hdss7-22", flavour)
			server := h22.box.HTTPServer()
			sees := func(moment, client string) {
				t.Helper()
				if got, want := h21.box.Get(server.URL), "hello, "+client+"\n"; got != want {
					t.Errorf("%s, the answer is %q, want %q", moment, got, want)
				}
			}
			c.connected(soon)
			for _, h := range []*walled{h21, h22} {
				h.daemon.Stop()
				h.iptables("iptables -F\niptables -t nat -A POSTROUTING -s " + h.subnet + " ! -o docker0 -j MASQUERADE" + centOSFirewall)
				h.start("--iptables-forward-rules=false")
			}
			if page, err := h21.box.TryGet(server.URL); err == nil {
				t.Fatalf("without flanneld's rules, the answer is %q", page)
			}
			for _, h := range []*walled{h21, h22} {
				h.daemon.Stop()
				h.start()
			}
			c.connected(soon)
			sees("with flanneld's rules", "10.4.7.21")
			for i, h := range []*walled{h21, h22} {
				h.iptables(strings.ReplaceAll(rulesByHand, "172.7.21.", []string{"172.7.21.", "172.7.22."}[i]))
			}
			sees("with rules by hand", "172.7.21.2")
			byHand := h21.iptables("iptables-save -t nat | grep docker0; iptables -S FORWARD | grep -v flanneld")
			time.Sleep(1500 * time.Millisecond) // flanneld has looked at its rules again
			if now := h21.iptables("iptables-save -t nat | grep docker0; iptables -S FORWARD | grep -v flanneld"); now != byHand {
				t.Errorf("the rules by hand were\n%s\nand are\n%s", byHand, now)
			}
			sees("later", "172.7.21.2")
		})
	}
}

// docker28 are the rules by which docker 28 and later keep other hosts from the
// first container of hdss7-22.
const docker28 = `iptables -t raw -A PREROUTING -d 172.7.22.2 ! -i docker0 -j DROP
	iptables -N DOCKER-USER; iptables -N DOCKER
		iptables -A DOCKER -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; iptables -A DOCKER ! -i docker0 -o docker0 -j DROP
		iptables -I FORWARD -o docker0 -j DOCKER; iptables -I FORWARD -j DOCKER-USER`

// TestDocker28 has flanneld let peers past these rules, and nobody else.
func TestDocker28(t *testing.T) {
	t.Parallel()
	for _, flavour := range lab.IPTablesFlavours {
		for _, config := range []string{hostGW, vxLAN} {
			t.Run(flavour+" "+config, func(t *testing.T) {
				c := start(t, config)
				h21, h22 := c.joinWalled("hdss7-21", flavour), c.joinWalled("hdss7-22", flavour)
				neighbour := c.Host("hdss7-99", "10.4.7.99/24")
				neighbour.Shell("ip route add 172.7.22.0/24 via 10.4.7.22")
				c.connected(soon)
				neighbour.Reach(h22.box, soon)
				h22.iptables(docker28)
				eventually(t, "the rules in DOCKER-USER", func() string {
					return fmt.Sprint(strings.Count(h22.rules("filter", "DOCKER-USER"), "-j ACCEPT"), strings.Count(h22.rules("raw", "PREROUTING"), "-j ACCEPT"))
				}, "2 1")
				c.connected(soon)
				pings := neighbour.PingEvery(20*time.Millisecond, h22.box)
				time.Sleep(300 * time.Millisecond)
				if s := pings.Stop(); s.Lost != s.Sent || s.Sent == 0 {
					t.Errorf("from a neighbour: %v", s)
				}
				c.losesNothing("dockerd puts its chains in front again", func() {
					h22.iptables(`iptables -I FORWARD -o docker0 -j DOCKER; iptables -I FORWARD -j DOCKER-USER
						iptables -D FORWARD 4; iptables -D FORWARD 3
						iptables -t raw -D PREROUTING -d 172.7.22.2 ! -i docker0 -j DROP; iptables -t raw -A PREROUTING -d 172.7.22.2 ! -i docker0 -j DROP`)
					time.Sleep(1500 * time.Millisecond) // flanneld has looked at its rules again
				})
				c.losesNothing("dockerd starts, takes its chains away, and writes them again later", func() {
					h22.iptables(`iptables -D FORWARD -o docker0 -j DOCKER; iptables -F DOCKER; iptables -X DOCKER
						iptables -t raw -D PREROUTING -d 172.7.22.2 ! -i docker0 -j DROP`)
					time.Sleep(1500 * time.Millisecond) // flanneld has looked at its rules again
					h22.iptables(strings.NewReplacer("iptables -N DOCKER-USER; ", "", "iptables -I FORWARD -j DOCKER-USER",
						"iptables -D FORWARD -j DOCKER-USER; iptables -I FORWARD -j DOCKER-USER").Replace(docker28))
					h21.box.Ping(h22.box) // a connection that was not there before
				})
				for _, next := range []string{vxLAN, direct, hostGW, vxLAN} {
					c.losesNothing("switch from "+config+" to "+next, func() {
						c.etcd.Set(configKey, next)
						time.Sleep(time.Second)
					})
					config = next
				}
				for _, h := range c.hosts { // a daemon that starts follows at once, and a running one seconds later
					eventually(t, h.Name+" has followed", func() string { return fmt.Sprint(strings.Contains(h.routes(), "dev flannel.1")) }, "true")
				}
				c.losesNothing("flanneld restarts", func() {
					h22.daemon.Stop()
					h22.start()
				})
			})
		}
	}
}

// TestForgedAddresses: what does not come from a peer by the way that leads to one
// stays out, whatever address it has.
func TestForgedAddresses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		config string
		forged []string
	}{
		{hostGW, []string{"10.4.7.99", "172.7.55.5", "172.8.21.5"}},
		{vxLAN, []string{"10.4.7.99", "172.7.55.5", "172.7.21.9", "10.4.7.21"}}, // a peer's own too: it would come by the tunnel
	} {
		t.Run(tt.config, func(t *testing.T) {
			c := start(t, tt.config)
			_, h22 := c.joinWalled("hdss7-21", "iptables-nft"), c.joinWalled("hdss7-22", "iptables-nft")
			h22.iptables(docker28)
			c.connected(soon)
			received := func() string {
				return h22.box.Shell("awk '/^Icmp:/ { if (n) print $n; for (i = 1; i <= NF; i++) if ($i == \"InEchos\") n = i }' /proc/net/snmp")
			}
			stranger := c.Host("hdss7-99", "10.4.7.99/24")
			stranger.Shell("ip route add 172.7.22.0/24 via 10.4.7.22")
			h22.Sysctl("net/ipv4/conf/all/rp_filter", "0")
			h22.Sysctl("net/ipv4/conf/ens33/rp_filter", "0")
			for _, address := range tt.forged {
				if address != "10.4.7.99" {
					stranger.Shell("ip addr add " + address + "/32 dev ens33")
				}
				before := received()
				if _, err := stranger.Try("busybox", "ping", "-c", "2", "-W", "1", "-I", address, "172.7.22.2"); err == nil {
					t.Errorf("%s gets an answer", address)
				}
				if now := received(); now != before || now == "" {
					t.Errorf("what %s sends arrives: %s echo requests, then %s", address, before, now)
				}
			}
		})
	}
}

// TestForgedPeer is what docs/security.md says of who forges a peer's address: packets get
// in, by the link as by the tunnel, and no answer comes out.
func TestForgedPeer(t *testing.T) {
	t.Parallel()
	for _, config := range []string{hostGW, vxLAN} {
		t.Run(config, func(t *testing.T) {
			c := start(t, config)
			_, h22 := c.joinWalled("hdss7-21", "iptables-nft"), c.joinWalled("hdss7-22", "iptables-nft")
			h22.iptables(docker28)
			c.connected(soon)
			for _, dev := range []string{"all", "ens33"} {
				h22.Sysctl("net/ipv4/conf/"+dev+"/rp_filter", "1")
			}
			stranger := c.Host("hdss7-99", "10.4.7.99/24")
			if config == hostGW {
				stranger.Shell("ip addr add 172.7.21.9/32 dev ens33; ip route add 172.7.22.0/24 via 10.4.7.22")
			} else {
				mac := strings.Fields(h22.Run("ip", "-brief", "link", "show", "flannel.1"))[2]
				stranger.Shell("set -e; ip link add vx type vxlan id 1 local 10.4.7.99 dev ens33 dstport 8472 nolearning; ip link set vx up; ip addr add 172.7.21.9/32 dev vx; " +
					"ip route add 172.7.22.0/24 via 172.7.22.0 dev vx onlink; ip neigh add 172.7.22.0 lladdr " + mac + " dev vx; bridge fdb append " + mac + " dev vx dst 10.4.7.22")
			}
			marked := func() string {
				return regexp.MustCompile(`@subnets-0 counter packets \d+`).FindString(h22.Run("nft", "list", "table", "ip", "flanneld"))
			}
			before := marked()
			if _, err := stranger.Try("busybox", "ping", "-c", "2", "-W", "1", "-I", "172.7.21.9", "172.7.22.2"); err == nil {
				t.Error("it gets an answer")
			}
			if now := marked(); now == before || now == "" {
				t.Errorf("what it sends stays out: %q, then %q; say so in docs/security.md", before, now)
			}
		})
	}
}
