package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"flanneld/internal/lab"
	"flanneld/pkg/check"
)

// Nothing is found where nothing is wrong.
func TestCheckFindsNothing(t *testing.T) {
	for _, mode := range []string{hostGW, vxLAN} {
		t.Run(mode, func(t *testing.T) {
			c := start(t, mode, "hdss7-21", "hdss7-22")
			h := c.hosts[0]
			for _, what := range []string{"", "172.7.22.0/24", "172.7.22.77", "10.4.7.22"} {
				clean(t, h, "check "+what, append([]string{"check"}, strings.Fields(what)...)...)
			}
			out, code := verb(t, h.Host, "check", "-o", "json")
			var found []check.Finding
			if err := json.Unmarshal([]byte(out), &found); err != nil || code != 0 || len(found) < 15 || found[0].Step != "daemon" || found[0].Level != check.OK {
				t.Errorf("exit code %d, %v:\n%s", code, err, out)
			}
			out, code = verb(t, h.Host, "check", "172.7.99.0/24")
			expect(t, "a subnet that nobody has", out, code, 1, "FAULT", "no host has leased a subnet with 172.7.99.0/24")
			out, code = verb(t, h.Host, "check", "172.7.21.1")
			expect(t, "the host itself", out, code, 2, "that is this host itself")
			out, code = verb(t, h.Host, "check", "hdss7-22")
			expect(t, "a name", out, code, 2, `"hdss7-22" is neither a subnet such as 172.7.22.0/24 nor an address`)
			h.daemon.Signal(syscall.SIGSTOP)
			out, code = verb(t, h.Host, "check")
			expect(t, "a daemon that does not answer", out, code, 2, "unknown", "does not answer: it is busy")
			h.daemon.Signal(syscall.SIGCONT)
		})
	}
}

// clean wants a check to find nothing, for once.
func clean(t *testing.T, n *node, what string, args ...string) {
	t.Helper()
	lab.Eventually(t, soon, what, func() error {
		out, code := verb(t, n.Host, args...)
		for _, bad := range []string{"FAULT", "unknown", "note"} {
			if code != 0 || strings.Contains(out, bad) {
				return fmt.Errorf("exit code %d, something is found in\n%s", code, out)
			}
		}
		return nil
	})
}

// trouble is a way to break a host, and what is found.
type trouble struct {
	name       string
	on         *node // that is broken
	how, undo  string
	step, text string // of the finding
	cure       string // part of it
	alone      bool   // there is no other fault
	undoByCure bool   // the first command of the cure mends it, in place of undo
}

// find breaks a host, looks from another, mends the first and looks again.
func (tr trouble) find(t *testing.T, from *node) {
	t.Helper()
	tr.on.Shell(tr.how)
	defer func() { tr.on.Shell(orTrue(tr.undo)) }()
	var finding string
	lab.Eventually(t, soon, tr.name+" to be found", func() error { // a busy machine may lose a probe
		out, code := verb(t, from.Host, "check")
		finding = findingOf(out, tr.step)
		switch {
		case code != 1 || !strings.Contains(finding, tr.text) || !strings.Contains(finding, tr.cure):
			return fmt.Errorf("exit code %d; step %s says %q; want %q and %q in\n%s", code, tr.step, finding, tr.text, tr.cure, out)
		case tr.alone && strings.Count(out, "FAULT") != 1:
			return fmt.Errorf("more is found in\n%s", out)
		}
		return nil
	})
	if tr.undoByCure {
		_, command, _ := strings.Cut(finding, "mend:")
		command, _, _ = strings.Cut(strings.TrimSpace(command), "\n")
		tr.on.Shell(command)
		clean(t, from, "mended by "+command, "check")
	}
}

func orTrue(line string) string {
	if line == "" {
		return "true"
	}
	return line
}

// findingOf is a step's lines where it has found a fault.
func findingOf(out, step string) (found string) {
	inside := false
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if !strings.HasPrefix(line, " ") {
			inside = len(fields) > 1 && fields[0] == "FAULT" && fields[1] == step
		}
		if inside {
			found += line
		}
	}
	return found
}

// A host is broken in one way after the other, and each is found and mended.
func TestCheckFindsEachFault(t *testing.T) {
	c := start(t, vxLAN, "hdss7-21", "hdss7-22")
	h21, h22 := c.hosts[0], c.hosts[1]
	env := h21.SubnetFile()
	for _, tr := range []trouble{
		{name: "a REJECT in front of flanneld's rules", on: h21, how: "iptables -I FORWARD -s 172.7.0.0/16 -j REJECT",
			step: "forward", text: "what containers send to 172.7.22.0/24 is dropped, by: iptables -A FORWARD -s 172.7.0.0/16 -j REJECT", undoByCure: true, alone: true},
		{name: "a DROP on the way back", on: h21, how: "iptables -I FORWARD -i flannel.1 -p tcp -j DROP",
			step: "forward", text: "what 172.7.22.0/24 sends to containers is dropped", undoByCure: true, alone: true},
		{name: "a DROP in a chain of the administrator's", on: h21, how: "iptables -N OFFICE; iptables -A OFFICE -d 172.7.22.0/24 -j DROP; iptables -I FORWARD -m comment --comment 'a b' -j OFFICE",
			undo: "iptables -D FORWARD -m comment --comment 'a b' -j OFFICE; iptables -X OFFICE", step: "forward", text: "iptables -A OFFICE -d 172.7.22.0/24 -j DROP", undoByCure: true, alone: true},
		{name: "a rule of the other iptables", on: h21, how: "iptables-legacy -I FORWARD -s 172.7.0.0/16 -j DROP",
			step: "forward", text: "by: iptables-legacy -A FORWARD", undoByCure: true, alone: true},
		{name: "docker 28's rule for a container", on: h21, how: "iptables -t raw -A PREROUTING -d 172.7.21.2/32 ! -i docker0 -j DROP", undo: "iptables -t raw -F",
			step: "forward", text: "docker (28 and later) drops what 172.7.22.0/24 sends to containers", cure: `"allow-direct-routing": true`, alone: true},
		{name: "docker's rule for ports that are not published", on: h21,
			how:  "iptables -N DOCKER; iptables -A DOCKER ! -i docker0 -o docker0 -j DROP; iptables -N DOCKER-USER; iptables -I FORWARD -o docker0 -j DOCKER; iptables -I FORWARD -j DOCKER-USER",
			undo: "iptables -D FORWARD -j DOCKER-USER; iptables -D FORWARD -o docker0 -j DOCKER; iptables -F DOCKER; iptables -X DOCKER; iptables -F DOCKER-USER; iptables -X DOCKER-USER",
			step: "forward", text: "docker drops what 172.7.22.0/24 sends to containers", undoByCure: true, alone: true},
		{name: "containers of one host do not reach each other", on: h21, how: "sysctl -qw net.bridge.bridge-nf-call-iptables=1; iptables -I FORWARD -i docker0 -o docker0 -j DROP", undo: "iptables -D FORWARD -i docker0 -o docker0 -j DROP",
			step: "bridge", text: "br_netfilter sends what crosses docker0 through iptables", cure: "iptables -I FORWARD -i docker0 -o docker0 -j ACCEPT", alone: true},
		{name: "the tunnel's port is closed here", on: h21, how: "iptables -A INPUT -p udp -m udp --dport 8472 -j DROP", undo: "iptables -F INPUT",
			step: "port", text: "the tunnel's packets from 10.4.7.22, UDP port 8472, are dropped where they arrive, by: iptables -A INPUT", undoByCure: true},
		{name: "everything is closed here but what is known", on: h21, how: "iptables -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; iptables -A INPUT -s 10.4.7.12 -j ACCEPT; iptables -A INPUT -i lo -j ACCEPT; iptables -A INPUT -j REJECT --reject-with icmp-host-prohibited",
			undo: "iptables -F INPUT", step: "port", text: "REJECT --reject-with icmp-host-prohibited", cure: "iptables -I INPUT -p udp --dport 8472 -s 10.4.7.0/24 -j ACCEPT"},
		{name: "the tunnel's port is closed on the way out", on: h21, how: "iptables -A OUTPUT -o ens33 -p udp -j DROP", undo: "iptables -F OUTPUT",
			step: "port", text: "UDP port 8472, are dropped where they leave, by: iptables -A OUTPUT -o ens33", undoByCure: true},
		{name: "the tunnel's port is closed there", on: h22, how: "iptables -A INPUT -p udp -m udp --dport 8472 -j DROP", undo: "iptables -F INPUT",
			step: "probe", text: "no answer from 172.7.22.1 through the tunnel, though its host 10.4.7.22 answers: UDP port 8472 seems to be blocked", undoByCure: true, alone: true},
		{name: "docker's MASQUERADE", on: h21, how: "iptables -t nat -A POSTROUTING -s 172.7.21.0/24 ! -o docker0 -j MASQUERADE", undo: "iptables -t nat -F POSTROUTING",
			step: "addresses", text: "containers on 10.4.7.22 see this host's address in place of the container's, by: iptables -t nat -A POSTROUTING -s 172.7.21.0/24 ! -o docker0 -j MASQUERADE",
			cure: "iptables -t nat -D POSTROUTING -s 172.7.21.0/24 ! -o docker0 -j MASQUERADE; iptables -t nat -I POSTROUTING -s 172.7.21.0/24 ! -d 172.7.0.0/16 ! -o docker0 -j MASQUERADE", alone: true},
		{name: "no forwarding", on: h21, how: "sysctl -qw net.ipv4.ip_forward=0", undo: "sysctl -qw net.ipv4.ip_forward=1",
			step: "forwarding", text: "net.ipv4.ip_forward is 0", cure: "sysctl -w net.ipv4.ip_forward=1", alone: true, undoByCure: true},
		{name: "no forwarding from the tunnel", on: h21, how: "echo 0 > /proc/sys/net/ipv4/conf/flannel.1/forwarding", undo: "echo 1 > /proc/sys/net/ipv4/conf/flannel.1/forwarding",
			step: "forwarding", text: "what arrives on flannel.1 is not forwarded", cure: "sysctl -w net.ipv4.conf.flannel/1.forwarding=1", alone: true, undoByCure: true},
		{name: "a route in front of flanneld's", on: h21, how: "ip route prepend 172.7.22.0/24 via 10.4.7.12 dev ens33",
			step: "route", text: "the way to 172.7.22.0/24 is not as flanneld wants it: another route: 172.7.22.0/24 via 10.4.7.12 dev ens33", undoByCure: true},
		{name: "a narrower route", on: h21, how: "ip route add 172.7.22.0/25 via 10.4.7.12 dev ens33", undo: "ip route del 172.7.22.0/25",
			step: "route", text: "packets to 172.7.22.1 leave by ens33 to 10.4.7.12, and should leave by flannel.1", cure: "ip route get 172.7.22.1"},
		{name: "a rule that comes first", on: h21, how: "ip route add default via 10.4.7.12 table 99; ip rule add to 172.7.22.0/24 table 99", undo: "ip rule del to 172.7.22.0/24 table 99; ip route flush table 99",
			step: "route", text: "packets to 172.7.22.1 leave by ens33", cure: "ip rule"},
		{name: "docker0 has an address of its own", on: h21, how: "ip addr add 172.17.0.1/16 dev docker0; ip addr del 172.7.21.1/24 dev docker0", undo: "ip addr del 172.17.0.1/16 dev docker0; ip addr add 172.7.21.1/24 dev docker0",
			step: "docker", text: "docker0 has 172.17.0.1/16, and subnet.env says 172.7.21.1/24", cure: "systemctl restart docker", alone: true},
		{name: "a container's MTU is too large", on: h21, how: "ip link set veth2 mtu 1500", undo: "ip link set veth2 mtu 1450",
			step: "docker", text: "the MTU of veth2 is 1500, and subnet.env says 1450", cure: "mk-docker-opts.sh", alone: true},
		{name: "subnet.env is edited", on: h21, how: "cp " + env + " " + env + ".was; sed -i s/MTU=1450/MTU=1400/ " + env + "; ip link set dev docker0 mtu 1400; ip link set dev veth2 mtu 1400",
			undo: "cat " + env + ".was > " + env + "; ip link set dev docker0 mtu 1450; ip link set dev veth2 mtu 1450",
			step: "subnet.env", text: "says MTU 1400, and packets may have 1450 bytes", cure: "systemctl restart flanneld", alone: true},
		{name: "subnet.env is gone", on: h21, how: "mv " + env + " " + env + ".was", undo: "mv " + env + ".was " + env,
			step: "subnet.env", text: "is not there", cure: "systemctl restart flanneld", alone: true},
		{name: "firewalld", on: h21, how: `nft 'table inet firewalld { chain filter_FORWARD { type filter hook forward priority filter + 10; policy accept;
				ct state established,related accept; oifname "lo" accept; reject with icmpx admin-prohibited; }; }'`, undo: "nft delete table inet firewalld",
			step: "nftables", text: `the nftables table "inet firewalld" drops what it does not know`, cure: "firewall-cmd --permanent --zone=trusted --add-source=172.7.0.0/16", alone: true},
		{name: "large packets get lost", on: h22, how: "iptables -t raw -A PREROUTING -p udp -m udp --dport 8472 -m length --length 1401:65535 -j DROP", undo: "iptables -t raw -F",
			step: "probe", text: "packets of 1450 bytes get lost on the way to 172.7.22.1, those of 1350 arrive", cure: `"MTU": 1400`, alone: true},
		{name: "TCP's checksums are wrong", on: h22, how: "iptables -t raw -A PREROUTING -i flannel.1 -p tcp -j DROP", undo: "iptables -t raw -F",
			step: "probe", text: "172.7.22.1 answers pings, and no TCP: its checksums are computed wrongly", cure: "ethtool -K flannel.1 tx-checksum-ip-generic off", alone: true},
		{name: "the peer's containers are filtered there", on: h22, how: "iptables -A INPUT -i flannel.1 -j DROP", undo: "iptables -F INPUT",
			step: "probe", text: "no answer from 172.7.22.1 through the tunnel", cure: "flanneld check 172.7.21.0/24   # on the peer 10.4.7.22", alone: true},
	} {
		t.Run(tr.name, func(t *testing.T) { tr.find(t, h21) })
	}

	t.Run("the peer is gone", func(t *testing.T) {
		h22.Cut()
		out, code := verb(t, h21.Host, "check", "172.7.22.0/24")
		expect(t, "cut off", findingOf(out, "probe"), code, 1, "no answer from 172.7.22.1, nor from its host 10.4.7.22 itself", "mend:", "ping 10.4.7.22")
		h22.Heal()
		h21.box.Reach(h22.box, soon)
	})
	t.Run("the config key is wrong", func(t *testing.T) {
		c.etcd.Set(configKey, `{"Network":"172.7.0.0/16","Backend":{"Type":"vxlan","VNI":-1}}`)
		lab.Eventually(t, soon, "the fault", func() error {
			out, code := verb(t, h21.Host, "check")
			if found := findingOf(out, "config"); code != 1 || !strings.Contains(found, `config key is wrong: Backend.VNI "-1"`) || !strings.Contains(found, "flanneld config set") {
				return errors.New(out)
			}
			return nil
		})
		c.etcd.Set(configKey, vxLAN)
	})
	t.Run("dockerd was too early", func(t *testing.T) {
		dockerd := filepath.Join(h21.Dir(), "dockerd")
		h21.Run("cp", "/bin/sleep", dockerd)
		cmd := h21.Command(dockerd, "600")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
		h21.Shell("touch -d '+1 hour' " + env + "; ip addr add 172.17.0.1/16 dev docker0; ip addr del 172.7.21.1/24 dev docker0")
		out, code := verb(t, h21.Host, "check")
		expect(t, "docker", findingOf(out, "docker"), code, 1, fmt.Sprintf("dockerd (pid %d) was started ", cmd.Process.Pid), "before the file was written", "systemctl restart docker")
		h21.Shell("ip addr del 172.17.0.1/16 dev docker0; ip addr add 172.7.21.1/24 dev docker0; touch " + env)
	})
	t.Run("etcd is away", func(t *testing.T) {
		c.etcd.Stop()
		lab.Eventually(t, soon, "the fault", func() error {
			out, code := verb(t, h21.Host, "check")
			if found := findingOf(out, "etcd"); code != 1 || !strings.Contains(found, "etcd cannot be read: ") || !strings.Contains(found, "curl -k http://10.4.7.12:2379/version") {
				return errors.New(out)
			}
			return nil
		})
		c.etcd.Start()
	})
	clean(t, h21, "that all is well in the end", "check")
}

// What takes another cluster: interfaces, ports and devices that were in use
// before flanneld came.
func TestCheckFindsWhatWasThereBefore(t *testing.T) {
	c := start(t, vxLAN, "hdss7-22")
	c.Router("gateway", "10.4.7.254/24", "10.4.9.254/24")
	find := func(h *node, step string, parts ...string) {
		t.Helper()
		lab.Eventually(t, soon, step+" on "+h.Name, func() error {
			out, code := verb(t, h.Host, "check")
			found := findingOf(out, step)
			for _, want := range parts {
				if code != 1 || !strings.Contains(found, want) {
					return fmt.Errorf("exit code %d, no %q in\n%s", code, want, out)
				}
			}
			return nil
		})
	}

	idle := &node{Host: c.Host("hdss7-11", "10.4.7.11/24")}
	find(idle, "daemon", "no flanneld runs in this network namespace", "systemctl start flanneld")

	other := &node{Host: c.Host("hdss7-31", "10.4.7.31/24").SubnetEnv("172.7.31.1/24")}
	other.Shell("ip link add tunnel9 type vxlan id 1 dev ens33 dstport 8472 nolearning; ip link set tunnel9 up")
	other.daemon = other.Flanneld()
	find(other, "device", "tunnel9 is a vxlan device with the VNI 1 and port 8472 that flanneld needs", "ip link del tunnel9")
	other.Shell("ip link del tunnel9")
	other.daemon.WaitReady()

	held := &node{Host: c.Host("hdss7-32", "10.4.7.32/24").SubnetEnv("172.7.32.1/24")}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	holder := held.Command(program)
	holder.Env = append(os.Environ(), holdEnv+"=8472")
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = holder.Process.Kill(); _ = holder.Wait() }()
	held.daemon = held.Flanneld()
	find(held, "device", fmt.Sprintf("UDP port 8472, the tunnel's, is held by e2e.test (pid %d)", holder.Process.Pid), "or give flanneld another port")

	two := &node{Host: c.Host("hdss7-33", "10.4.7.33/24", "10.4.9.33/24").SubnetEnv("172.7.33.1/24")}
	two.daemon = two.Flanneld()
	two.daemon.WaitReady()
	two.box = two.Container("c1")
	two.box.Reach(c.hosts[0].box, soon)
	two.Shell("ip route add 10.4.7.22/32 via 10.4.9.254 dev ens34; sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.ens33.rp_filter=1")
	find(two, "rp_filter", "packets from 10.4.7.22 are dropped where they come in on ens33, as the route to it leads over ens34: rp_filter is strict",
		"sysctl -w net.ipv4.conf.ens33.rp_filter=2")
	two.Shell("sysctl -qw net.ipv4.conf.ens33.rp_filter=2")
	if out, _ := verb(t, two.Host, "check", "172.7.22.0/24"); strings.Contains(out, "FAULT") {
		t.Errorf("after the cure:\n%s", out)
	}
	two.Shell("ip route del 10.4.7.22/32; ip link set ens33 down")
	find(two, "interface", "the external interface ens33 is down", "ip link set ens33 up")

	open := &node{Host: c.Host("hdss7-34", "10.4.7.34/24").SubnetEnv("172.7.34.1/24")}
	open.Shell("iptables -P FORWARD DROP")
	open.daemon = open.Flanneld("--iptables-forward-rules=false")
	open.daemon.WaitReady()
	find(open, "forward", "is dropped by the policy of FORWARD, and no rule lets it pass", "iptables -P FORWARD ACCEPT")

	far := &node{Host: c.Host("hdss9-35", "10.4.9.35/24").SubnetEnv("172.7.35.1/24")}
	far.daemon = far.Flanneld()
	far.daemon.WaitReady()
	c.etcd.Set(leases+"172.7.36.0-24", `{"PublicIP":"10.4.8.36","BackendType":"host-gw"}`)
	find(far, "route", "there is no way to 172.7.36.0/24: its host 10.4.8.36 is not on the link of ens33, and its lease says \"host-gw\"", "flanneld config set")

	// Two hosts with one address: the lease goes back and forth.
	clone := c.Host("hdss7-37", "10.4.7.37/24")
	clone.FlanneldAs(func(o *lab.FlanneldOptions) { o.Args[0] = "--public-ip=10.4.7.22" })
	find(c.hosts[0], "lease", "another host writes the lease of 172.7.22.0/24: it seems to have the public IP 10.4.7.22 too", "--public-ip or --iface")

	// Something undoes flanneld's work without end.
	stop := make(chan struct{})
	fighting := make(chan struct{})
	go func() {
		defer close(fighting)
		for {
			select {
			case <-stop:
				return
			default:
				_, _ = other.Try("ip", "neigh", "replace", "172.7.22.0", "lladdr", "0a:00:00:00:00:99", "dev", "flannel.1", "nud", "permanent")
			}
		}
	}()
	lab.Eventually(t, 3*soon, "the fight to be noticed", func() error {
		out, code := verb(t, other.Host, "check", "172.7.22.0/24")
		if code != 1 || !strings.Contains(findingOf(out, "flanneld"), "another program undoes flanneld's work") ||
			!strings.Contains(findingOf(out, "route"), "the neighbour entry for 172.7.22.0 says 0a:00:00:00:00:99") {
			return errors.New(out)
		}
		return nil
	})
	close(stop)
	<-fighting
}

// Certificates that are over, and a clock that is wrong.
func TestCheckLooksAtTheClock(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	ca := lab.NewCA(t, "ca")
	etcd := l.EtcdOn(lab.EtcdOptions{TLS: ca}, l.Host("hdss7-12", "10.4.7.12/24"))
	etcd.Set(configKey, hostGW)
	late := l.Host("late", "10.4.7.13/24")
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(3*time.Hour).UTC().Format(http.TimeFormat))
	})}
	listener := late.Listen("tcp4", ":2379")
	go func() { _ = server.Serve(listener) }()
	defer server.Close()

	h := l.Host("hdss7-21", "10.4.7.21/24").SubnetEnv("172.7.21.1/24")
	old := ca.Client("old", -time.Hour)
	daemon := h.FlanneldAs(func(o *lab.FlanneldOptions) {
		for i, a := range o.Args {
			for flag, value := range map[string]string{"--etcd-certfile=": old.CertFile, "--etcd-keyfile=": old.KeyFile, "--etcd-endpoints=": strings.Join(etcd.Endpoints(), ",") + ",http://10.4.7.13:2379"} {
				if strings.HasPrefix(a, flag) {
					o.Args[i] = flag + value
				}
			}
		}
	})
	lab.Eventually(t, soon, "the faults", func() error {
		out, code := verb(t, h, "check")
		if code != 1 || !strings.Contains(findingOf(out, "certificates"), old.CertFile+" has expired on ") || !strings.Contains(findingOf(out, "etcd"), "etcd cannot be read") ||
			!strings.Contains(findingOf(out, "clock"), "this host's clock is 3h0m0s behind that of etcd at http://10.4.7.13:2379") {
			return errors.New(out)
		}
		return nil
	})
	daemon.Stop()
}

// holdEnv makes this test binary a program that holds a UDP port.
const holdEnv = "FLANNELD_TEST_HOLD_PORT"

func holdPort(port string) {
	if _, err := net.ListenPacket("udp4", ":"+port); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	select {}
}
