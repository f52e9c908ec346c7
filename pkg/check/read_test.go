package check

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"flanneld/internal/lab"
	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
	"flanneld/pkg/status"
	"flanneld/pkg/subnet"
)

// sh runs a shell script in the test's network namespace.
func sh(t *testing.T, script string) {
	t.Helper()
	if out, err := exec.Command("sh", "-ec", script).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// layNetwork makes ens33, which leads to a host called far, which forwards
// packets, of both families; and takes them away at the end.
func layNetwork(t *testing.T) {
	t.Helper()
	sh(t, `sysctl -qw net.ipv6.conf.default.accept_dad=0; ip netns add far; ip netns exec far sysctl -qw net.ipv6.conf.default.accept_dad=0
		ip link add ens33 up type veth peer name eth0 netns far
		ip address add 10.4.7.21/24 dev ens33; ip address add fc00:a:4:7::15/64 dev ens33 nodad
		ip netns exec far sh -ec 'ip link set lo up; ip link set eth0 up; ip address add 10.4.7.22/24 dev eth0; sysctl -qw net.ipv4.ip_forward=1
			ip address add fc00:a:4:7::16/64 dev eth0 nodad; sysctl -qw net.ipv6.conf.all.forwarding=1 net.ipv4.icmp_ratemask=0 net.ipv6.icmp.ratelimit=0'`)
	t.Cleanup(func() { sh(t, "ip netns del far; ip link del ens33 2>/dev/null || true") })
}

// What is on a host is read as it is.
func TestRead(t *testing.T) {
	layNetwork(t)
	sh(t, `ip link add flannel.1 up mtu 1450 type vxlan id 1 local 10.4.7.21 dev ens33 dstport 8472 nolearning; ip address add 172.7.21.0/32 dev flannel.1
		ip link set flannel.1 alias flanneld
		ip link add docker0 up type bridge; ip link add veth2 up type veth peer name veth2x; ip link set veth2 master docker0; ip address add 172.7.21.1/24 dev docker0
		ip route add 172.7.22.0/24 via 172.7.22.0 dev flannel.1 onlink proto 77; ip route add unreachable 172.7.23.0/24
		ip neigh replace 172.7.22.0 lladdr 0a:00:00:00:00:16 dev flannel.1 nud permanent; bridge fdb replace 0a:00:00:00:00:16 dev flannel.1 dst 10.4.7.22 self permanent
		ip rule add to 172.7.24.0/24 table 99 priority 77; ip rule add from 1.2.3.4 table 99 priority 78
		sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.flannel/1.rp_filter=2
		iptables -A FORWARD -s 172.7.0.0/16 -j DROP; nft add table inet office`)
	t.Cleanup(func() {
		sh(t, "ip link del flannel.1; ip link del docker0; ip link del veth2; ip rule del priority 77; ip rule del priority 78; ip route del unreachable 172.7.23.0/24; iptables -F; nft delete table inet office")
	})
	file := filepath.Join(t.TempDir(), "subnet.env")
	if err := os.WriteFile(file, []byte("FLANNEL_NETWORK=172.7.0.0/16\nFLANNEL_SUBNET=172.7.21.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	dockerd := process(t, "dockerd")
	held, err := net.ListenPacket("udp4", ":9472")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()

	s := *healthy().Status
	s.Daemon.SubnetFile, s.Etcd = file, status.Etcd{}
	s.Device.Port = 9472 // that our own socket holds
	f := read(t.Context(), status.SocketOf(status.DefaultPrefix), func(context.Context) (status.Status, error) { return s, nil })
	f.ReadPaths([]status.Peer{s.Peers[0], {Subnet: netip.MustParsePrefix("172.7.23.0/24"), PublicIP: peer}})

	if f.Daemon != nil || f.Status == nil || len(f.Unread) > 0 || time.Since(f.Now) > time.Minute {
		t.Errorf("%v, %v, %v, %v", f.Daemon, f.Status, f.Unread, f.Now)
	}
	tunnel, _ := f.link("flannel.1")
	bridges, ports := f.bridges(), f.ports("docker0")
	if tunnel.Kind == nil || tunnel.Kind.Encapsulation().Port != 8472 || !tunnel.Has(own.Addr()) || len(bridges) != 1 || !bridges[0].Has(gateway(own)) || len(ports) != 1 || ports[0].Name != "veth2" {
		t.Errorf("%+v", f.Links)
	}
	if want := status.NewKernel(f.Routes, f.Entries).State(s.Peers[0]); want != status.InPlace {
		t.Errorf("%s in %+v and %+v", want, f.Routes, f.Entries)
	}
	for _, tt := range []struct {
		what      string
		got, want any
	}{
		{"rules", f.Rules[inet.IPv4], []kernel.Rule{
			{Priority: 77, Dst: netip.MustParsePrefix("172.7.24.0/24")}, {Priority: 78, Narrow: true}, {Priority: 32767},
		}},
		{"subnet.env", f.Env, subnet.Env{Network: netip.MustParsePrefix("172.7.0.0/16"), Subnet: own, MTU: 1450}},
		{"the way to a peer", f.Paths[gateway(far)], Path{Via: far.Addr(), Dev: "flannel.1"}},
		{"the way to its host", f.Paths[peer], Path{Dev: "ens33"}},
		{"no way", f.Paths[netip.MustParseAddr("172.7.23.1")].Err != nil, true},
		{"ip_forward", f.Sysctl["net.ipv4.ip_forward"], "1"},
		{"a setting of a device with a dot", f.Sysctl["net.ipv4.conf.flannel.1.rp_filter"], "2"},
		{"sockets", f.Sockets, []Socket{{9472, Process{PID: os.Getpid(), Name: comm(t)}, inet.IPv4}}},
		{"dockerd", f.Docker != nil && f.Docker.PID == dockerd && time.Since(f.Docker.Started).Abs() < time.Minute, true},
		{"tables", tables(f.Firewall), []string{"iptables filter", "nft office"}},
		{"the kernel", strings.Contains(f.Kernel, "."), true},
	} {
		if diff := cmp.Diff(tt.want, tt.got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("%s: %s", tt.what, diff)
		}
	}
	if !f.Firewall.Evaluate(rules.Packet{Src: container(own)}, rules.Forwarded).Dropped {
		t.Errorf("%+v", f.Firewall)
	}
}

// TestReadBothFamilies reads of each what is its own, and nothing of one that is not used.
func TestReadBothFamilies(t *testing.T) {
	layNetwork(t)
	sh(t, `ip link add flannel.1 up mtu 1450 type vxlan id 1 local 10.4.7.21 dev ens33 dstport 8472 nolearning; ip address add 172.7.21.0/32 dev flannel.1
		ip link add flannel-v6.1 up mtu 1430 type vxlan id 1 local fc00:a:4:7::15 dev ens33 dstport 8472 nolearning; ip address add fc00:ac:7:15::/128 dev flannel-v6.1 nodad
		ip link set flannel.1 alias flanneld; ip link set flannel-v6.1 alias flanneld
		ip link add docker0 up mtu 1430 type bridge; ip address add 172.7.21.1/24 dev docker0; ip address add fc00:ac:7:15::1/64 dev docker0 nodad
		ip route add 172.7.22.0/24 via 172.7.22.0 dev flannel.1 onlink proto 77; ip route add fc00:ac:7:16::/64 via fc00:ac:7:16:: dev flannel-v6.1 onlink proto 77
		while read via dev host; do ip neigh replace $via lladdr 0a:00:00:00:00:16 dev $dev nud permanent; bridge fdb replace 0a:00:00:00:00:16 dev $dev dst $host self permanent; done <<-EOF
			172.7.22.0 flannel.1 10.4.7.22
			fc00:ac:7:16:: flannel-v6.1 fc00:a:4:7::16
		EOF
		ip -6 rule add to fc00:ac:7:18::/64 table 99 priority 77
		ip address add 2001:db8::21/64 dev ens33 nodad valid_lft 9999 preferred_lft 9999
		sysctl -qw net.ipv6.conf.all.forwarding=1 net.ipv6.conf.ens33.accept_ra=1 net.ipv6.conf.flannel-v6/1.disable_ipv6=0
		ip6tables -A FORWARD -s fc00:ac:7::/48 -j DROP; nft add table inet office; nft add table ip6 home; nft add table ip away`)
	t.Cleanup(func() {
		sh(t, "ip link del flannel.1; ip link del flannel-v6.1; ip link del docker0; ip -6 rule del priority 77; ip6tables -F; nft delete table inet office; nft delete table ip6 home; nft delete table ip away; sysctl -qw net.ipv6.conf.all.forwarding=0")
	})
	file := filepath.Join(t.TempDir(), "subnet.env")
	whole := subnet.Env{Network: netip.MustParsePrefix("172.7.0.0/16"), Subnet: own, IPv6Network: netip.MustParsePrefix("fc00:ac:7::/48"), IPv6Subnet: netip.MustParsePrefix("fc00:ac:7:15::/64"), MTU: 1430}
	if err := os.WriteFile(file, whole.Marshal(), 0o644); err != nil {
		t.Fatal(err)
	}
	both := *dual().Status
	both.Daemon.SubnetFile, both.Etcd = file, status.Etcd{}
	both.Device.Port, both.IPv6.Device.Port = 9472, 9472
	held, err := net.ListenPacket("udp6", "[::]:9472")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	reading := func(s status.Status) Facts {
		f := read(t.Context(), status.SocketOf(status.DefaultPrefix), func(context.Context) (status.Status, error) { return s, nil })
		f.ReadPaths(s.Peers)
		if len(f.Unread) > 0 || f.Env != whole {
			t.Errorf("%v, %+v", f.Unread, f.Env)
		}
		return f
	}
	f := reading(both)
	six := f.of(inet.IPv6)
	for _, p := range both.Peers {
		if state := f.of(inet.Of(p.PublicIP)).inKernel.State(p); state != status.InPlace {
			t.Errorf("the way to %v: %s", p.Subnet, state)
		}
		if path := f.Paths[gateway(p.Subnet)]; path != (Path{Via: p.Via, Dev: p.Dev}) {
			t.Errorf("the way to %v: %+v", p.Subnet, path)
		}
	}
	for _, tt := range []struct {
		what      string
		got, want any
	}{
		{"rules", f.Rules[inet.IPv6][0], kernel.Rule{Priority: 77, Dst: netip.MustParsePrefix("fc00:ac:7:18::/64")}},
		{"the bridge", len(six.bridges()) == 1 && has(six.bridges()[0], netip.MustParsePrefix("fc00:ac:7:15::1/64")), true},
		{"settings", f.Sysctl["net.ipv6.conf.all.forwarding"] + f.Sysctl["net.ipv6.conf.ens33.forwarding"] + f.Sysctl["net.ipv6.conf.ens33.accept_ra"], "111"},
		{"a setting of a device with a dot", f.Sysctl["net.ipv6.conf.flannel-v6.1.disable_ipv6"], "0"},
		{"addresses for a time", f.Leasing["ens33"] && !f.Leasing["docker0"], true},
		{"router advertisements", len(six.deaf()), 1},
		{"sockets", f.Sockets, []Socket{{9472, Process{PID: os.Getpid(), Name: comm(t)}, inet.IPv6}}},
		{"tables", withRules(f.Firewall), []string{"ip6tables filter", "nft office", "nft home", "nft away"}},
	} {
		if diff := cmp.Diff(tt.want, tt.got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
			t.Errorf("%s: %s", tt.what, diff)
		}
	}
	for _, p := range six.Status.Peers {
		if v := f.Firewall.Evaluate(six.out(p), rules.Forwarded); !v.Dropped || v.Table.Program != "ip6tables" {
			t.Errorf("%+v", v)
		}
	}

	alone := reading(*f.of(inet.IPv4).Status)
	for _, l := range alone.Links {
		if len(only(l.Addrs, inet.IPv6, kernel.Addr.Addr)) > 0 {
			t.Errorf("%s has %v", l.Name, l.Addrs)
		}
	}
	if diff := cmp.Diff([]string{"nft office", "nft away"}, withRules(alone.Firewall)); diff != "" || alone.Sysctl["net.ipv6.conf.all.forwarding"] != "" {
		t.Errorf("%s; %v", diff, alone.Sysctl)
	}
}

// withRules are the tables without iptables' own empty one, which other tests leave.
func withRules(all rules.Ruleset) []string {
	return slices.DeleteFunc(tables(all), func(name string) bool { return name == "iptables filter" })
}

func tables(all rules.Ruleset) (out []string) {
	for _, t := range all {
		out = append(out, t.Program+" "+t.Name)
	}
	return out
}

// comm is how the kernel calls this process.
func comm(t *testing.T) string {
	t.Helper()
	name, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(name))
}

// process runs a program of this name until the test's end.
func process(t *testing.T, name string) (pid int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	sh(t, "cp /bin/sleep "+path)
	cmd := exec.Command(path, "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd.Process.Pid
}

// Without a daemon the rest is read, and what cannot be read is noted.
func TestReadWithoutDaemon(t *testing.T) {
	dir := t.TempDir()
	for _, program := range []string{"iptables", "nft"} {
		if err := os.WriteFile(filepath.Join(dir, program), []byte("#!/bin/sh\necho no such thing >&2\nexit 7\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	f := read(t.Context(), status.SocketOf(status.DefaultPrefix), func(context.Context) (status.Status, error) { return status.Status{}, status.ErrNoDaemon })
	want := []string{"iptables could not be read: " + dir + "/iptables: no such thing"}
	if diff := cmp.Diff(want, f.Unread); diff != "" || f.Status != nil || !errors.Is(f.Daemon, status.ErrNoDaemon) || f.Docker != nil || f.EnvError == nil || len(f.Links) == 0 || f.Frozen != 0 {
		t.Errorf("%s\n%+v", diff, f)
	}
}

// A daemon that is stopped is told from one that is busy.
func TestFrozen(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), frozenEnv+"=1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	silent := func(context.Context) (status.Status, error) {
		return status.Status{}, fmt.Errorf("it %w", status.ErrNoAnswer)
	}
	await := func(want int) {
		t.Helper()
		lab.Eventually(t, 10*time.Second, "a process to be stopped or not", func() error {
			if f := read(t.Context(), status.SocketOf(status.DefaultPrefix), silent); f.Frozen != want {
				return fmt.Errorf("process %d, want %d", f.Frozen, want)
			}
			return nil
		})
	}
	await(cmd.Process.Pid)
	sh(t, fmt.Sprintf("kill -CONT %d", cmd.Process.Pid))
	await(0)
}

// Names and states of processes are other people's to choose.
func TestStat(t *testing.T) {
	proc := t.TempDir()
	if fields := stat(proc); fields != nil {
		t.Error(fields)
	}
	if err := os.WriteFile(filepath.Join(proc, "stat"), []byte("7 (a) R (b) T 1 2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if fields := stat(proc); len(fields) != 3 || fields[0] != "T" {
		t.Error(fields)
	}
	if at := started(proc); !at.IsZero() {
		t.Error(at)
	}
}

// TestNFTablesOfIPv6 has somebody's tables drop what is of IPv6, and not of IPv4.
func TestNFTablesOfIPv6(t *testing.T) {
	for _, tt := range []struct{ script, text, fix string }{
		{"table inet office { chain c { type filter hook forward priority 0; ip6 daddr fc00:ac:7:16::/64 drop; }; }",
			`the nftables table "inet office" drops what containers send to fc00:ac:7:16::/64, in chain c, by: ip6 daddr fc00:ac:7:16::/64 drop; no iptables rule overrules it`,
			"nft insert rule inet office c ip6 saddr fc00:ac:7::/48 accept; nft insert rule inet office c ip6 daddr fc00:ac:7::/48 accept   # and the same where the table comes from\nnft delete rule inet office c handle "},
		{"table ip6 office { chain c { type filter hook forward priority 0; policy drop; }; }",
			`the nftables table "ip6 office" drops what it does not know, and does not know the network fc00:ac:7::/48`, "nft insert rule ip6 office c ip6 saddr fc00:ac:7::/48 accept"},
		{"table ip6 docker-bridges { chain raw-PREROUTING { type filter hook prerouting priority raw; ip6 daddr fc00:ac:7:15::2 iifname != docker0 drop; }; }",
			`docker drops what fc00:ac:7:16::/64 sends to containers, in its nftables table "ip6 docker-bridges", in chain raw-PREROUTING, by: ip6 daddr fc00:ac:7:15::2 iifname != "docker0" drop`, "mk-docker-opts.sh"},
		{"table ip6 office { chain c { type filter hook input priority 0; udp dport 8472 drop; }; }",
			"the tunnel's packets from fc00:a:4:7::16, UDP port 8472, are dropped where they arrive", "nft insert rule ip6 office c udp dport 8472 accept"},
	} {
		sh(t, "nft flush ruleset; nft '"+tt.script+"'")
		f := dual()
		f.readFirewall(t.Context())
		var found []Finding
		for _, x := range Run(f, f.Status.Peers) {
			if x.Level != OK {
				found = append(found, x)
			}
		}
		if len(found) != 1 || found[0].Step != "nftables" || !strings.HasPrefix(found[0].Text, tt.text) || !strings.HasPrefix(strings.Join(found[0].Fix, "\n"), tt.fix) {
			t.Errorf("%s: %+v", tt.script, found)
		}
		sh(t, "nft flush ruleset")
	}
}

// TestDocker29 reads what docker 29 writes into nftables, from the kernel.
func TestDocker29(t *testing.T) {
	const plain, mark = "mk-docker-opts.sh -f /run/flannel/subnet.env; systemctl restart docker", restartFix
	for file, want := range map[string]struct{ text, fix string }{
		"docker-29-plain":          {`in its nftables table "ip docker-bridges", in chain raw-PREROUTING, by: ip daddr 172.7.21.2 iifname != "docker0" drop comment "DROP DIRECT ACCESS"`, plain},
		"docker-29-onlymark":       {`in chain raw-PREROUTING, by: ip daddr 172.7.21.2 iifname != "docker0" drop comment "DROP DIRECT ACCESS"`, plain},
		"docker-29-direct-routing": {`in chain filter-forward-in__docker0, by: drop comment "UNPUBLISHED PORT DROP"; no rule of others overrules it`, plain},
		"docker-29-options":        {`by: drop comment "UNPUBLISHED PORT DROP"; it passes what has the mark 0x1000/0x1000`, mark},
	} {
		t.Run(file, func(t *testing.T) {
			sh(t, "nft flush ruleset; nft -f ../firewall/nftables/testdata/"+file+".nft")
			t.Cleanup(func() { sh(t, "nft flush ruleset") })
			f := healthy()
			f.readFirewall(t.Context())
			if len(f.Unread) > 0 || len(f.Notes) > 0 {
				t.Errorf("%v, %v", f.Unread, f.Notes)
			}
			var found []Finding
			for _, x := range all(f) {
				if x.Level == Fault && x.Step != "addresses" { // two of them masquerade as well
					found = append(found, x)
				}
			}
			if len(found) != 1 || found[0].Step != "nftables" || !strings.HasPrefix(found[0].Text, "docker drops what 172.7.22.0/24 sends to containers, ") || !strings.Contains(found[0].Text, want.text) || found[0].Fix[0] != want.fix {
				t.Errorf("%+v", found)
			}
			sh(t, "nft add table ip flanneld; nft add chain ip flanneld prerouting '{ type filter hook prerouting priority -310; }'; nft add rule ip flanneld prerouting iifname flannel.1 ip saddr 172.7.0.0/16 meta mark set meta mark or 0x1000")
			f = healthy()
			f.readFirewall(t.Context())
			if passes := Worst(all(f)) != Fault || !strings.Contains(printed(t, all(f)), "FAULT  nftables"); passes != (want.fix == mark) {
				t.Errorf("with the mark: %s", printed(t, all(f)))
			}
		})
	}
}
