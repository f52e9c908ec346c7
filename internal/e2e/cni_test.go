package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"flanneld/internal/docs"
	"flanneld/internal/lab"
	"flanneld/pkg/check"
)

// TestCNI has containers made by CNI's plugins, as containerd, CRI-O and Nomad
// have them run: by a conflist written from subnet.env, and by flannel's own
// plugin, which reads that file by itself.
func TestCNI(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, config string
		network      func(*machine)
		flags        []string
		mtu, client  string // none: the container
	}{
		{"host-gw, conflist", hostGW, writeConflist, []string{"--ip-masq"}, "1500", ""},
		{"vxlan, flannel's plugin", vxLAN, copyConflist, []string{"--ip-masq"}, "1450", ""},
		{"vxlan, conflist without --ip-masq", vxLAN, writeConflist, nil, "1450", "172.7.21.0"}, // of flannel.1
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ms := engines(t, tt.config, tt.flags...)
			ms[0].installCommand("FLANNELD_ETCD_ENDPOINTS=http://10.4.7.12:2379")
			ms[0].types(docs.Containing(t, "docs/cni.md", "flanneld lease reserve"))
			ms[0].shows(docs.Containing(t, "docs/cni.md", "hdss7-21# flanneld lease reserve"))
			var boxes []box
			for _, m := range ms {
				m.installCNI()
				// Checks in a row get no answers once the peer has sent its share of them.
				m.sh("sysctl -qw net.ipv4.icmp_ratelimit=0")
				tt.network(m)
				clean(t, m.node(), "no container, and no complaint", "", "docker")
			}
			// ip netns exec mounts a /sys. Without --ip-masq there is a rule for each container,
			// and check looks for one of the first address, which would be gone.
			if realRoot(t) && tt.flags != nil {
				tryCNI(t, ms)
			}
			for _, m := range ms {
				boxes = append(boxes, m.cni("c1"))
			}
			if tt.client == "" {
				tt.client = boxes[0].ip
			}
			if mtu := boxes[0].mtu(); mtu != tt.mtu {
				t.Errorf("the MTU in a container is %s", mtu)
			}
			boxes[0].meets(t, boxes[1], tt.client)
			ms[0].sh("ip link add docker0 up type bridge; ip address add 172.17.0.1/16 dev docker0")
			found, _ := checked(t, ms[0].node(), "")
			if x := firstOf(found, check.Fault); (x.Step == "addresses") != (tt.flags == nil) {
				t.Errorf("check finds\n%s", shown(found))
			}
			if tt.flags == nil {
				return
			}
			for _, m := range ms {
				clean(t, m.node(), "no complaint", "")
			}
			if page := ms[1].sh("busybox wget -q -O - http://10.4.7.21:8080/"); page != "10.4.7.22" {
				t.Errorf("by a port of the host, the server sees %s", page)
			}
		})
	}
}

// tryCNI does what docs/cni.md tells those to do who have no runtime yet.
func tryCNI(t *testing.T, ms []*machine) {
	t.Helper()
	for _, m := range ms {
		m.pingIs()
		m.types(docs.Containing(t, "docs/cni.md", "cnitool add flannel"))
	}
	ms[0].shows(docs.Containing(t, "docs/cni.md", "hdss7-21# ip netns exec try ping"))
	ms[0].types(docs.Containing(t, "docs/cni.md", "ip netns exec try ping"))
	for _, m := range ms {
		m.types(docs.Containing(t, "docs/cni.md", "cnitool del flannel"))
	}
}

// TestCNIOfAnEarlierSubnet is a host that gets another subnet, with a bridge that
// is left from before.
func TestCNIOfAnEarlierSubnet(t *testing.T) {
	t.Parallel()
	ms := engines(t, hostGW, "--ip-masq")
	m := ms[0]
	m.installCNI()
	m.write("/run/flannel/subnet.env", strings.Replace(m.read("/run/flannel/subnet.env"), "172.7.21.1", "172.7.99.1", 1), 0o644)
	m.sh("mkdir -p /etc/cni/net.d; /usr/local/flannel/mk-cni-conf.sh")
	if old := m.cni("old"); old.ip != "172.7.99.2" {
		t.Fatalf("the container has %s", old.ip)
	}
	found, code := checked(t, m.node(), "")
	if x := firstOf(found, check.Fault); code != 1 || x.Step != "docker" || !strings.Contains(x.Text, "cni0 has 172.7.99.1/24, and subnet.env says 172.7.21.1/24: it was made for another subnet") {
		t.Errorf("exit code %d\n%s", code, shown(found))
	}
	m.put(m.SubnetFile(), "/run/flannel/subnet.env", 0o644)
	writeConflist(m)
	fresh := m.cni("fresh") // behind the bridge as it is: its address is corrected
	clean(t, m.node(), "no complaint", "")
	ms[1].installCNI()
	writeConflist(ms[1])
	fresh.meets(t, ms[1].cni("c1"), fresh.ip)
}

// engines are two machines with a flanneld each, on which containers are to be
// started. Its subnet.env is where such programs look for it.
func engines(t *testing.T, config string, flags ...string) (ms []*machine) {
	t.Helper()
	l := lab.New(t)
	l.EtcdOn(lab.EtcdOptions{}, l.Host("hdss7-12", "10.4.7.12/24")).Set(configKey, config)
	var daemons []*lab.Daemon
	for _, number := range []string{"21", "22"} {
		h := l.Host("hdss7-"+number, "10.4.7."+number+"/24").SubnetEnv("172.7." + number + ".1/24")
		daemons = append(daemons, h.Flanneld(flags...))
		ms = append(ms, newMachine(t, h))
	}
	for i, m := range ms {
		daemons[i].WaitReady()
		m.put(m.SubnetFile(), "/run/flannel/subnet.env", 0o644)
	}
	return ms
}

// node is the machine for what looks at a host from outside.
func (m *machine) node() *node { return &node{Host: m.Host} }

// installCNI puts the plugins where packages put them, and lays out what of the release
// is for them.
func (m *machine) installCNI() {
	t := m.t
	t.Helper()
	from := lab.CNIPlugins(t)
	files, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		m.put(filepath.Join(from, f.Name()), "/opt/cni/bin/"+f.Name(), 0o755)
	}
	m.sh("mkdir -p /usr/local/bin && ln -s /opt/cni/bin/cnitool /usr/local/bin/")
	m.put("../../dist/mk-cni-conf.sh", "/usr/local/flannel/mk-cni-conf.sh", 0o755)
	m.put("../../dist/cni/10-flannel.conflist", "/usr/local/flannel/cni/10-flannel.conflist", 0o644)
	if programs := m.types(docs.Containing(t, "docs/cni.md", "ls /opt/cni/bin")); !strings.Contains(programs+"\n", "flannel\n") {
		t.Errorf("flannel's plugin is not among\n%s", programs)
	}
}

// writeConflist is what a user does who has not got flannel's plugin.
func writeConflist(m *machine) {
	t := m.t
	t.Helper()
	m.types(docs.Containing(t, "docs/cni.md", "mk-cni-conf.sh -f /run/flannel/subnet.env"))
	m.shows(docs.Containing(t, "docs/cni.md", "# grep subnet /etc/cni/net.d"))
}

// copyConflist is what one does who has.
func copyConflist(m *machine) {
	t := m.t
	t.Helper()
	m.types(docs.Containing(t, "docs/cni.md", "cp /usr/local/flannel/cni/10-flannel.conflist"))
}

// box is a container on a machine, whoever has started it.
type box struct {
	m     *machine
	ip    string
	enter string // goes before a command that is to run on its network
}

// cni makes a network namespace and has it connected as runtimes do it, with port
// 8080 of the host passed on.
func (m *machine) cni(name string) box {
	m.t.Helper()
	all := m.cniEach(name)
	if len(all) != 1 {
		m.t.Fatalf("the container has %d addresses, want one: %v", len(all), all)
	}
	return all[0]
}

// cniEach is cni for a container of several families: the same by each of its addresses.
func (m *machine) cniEach(name string) (all []box) {
	m.t.Helper()
	out := m.sh("ip netns add " + name + ` && CNI_PATH=/opt/cni/bin NETCONFPATH=/etc/cni/net.d \
		CAP_ARGS='{"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}' /opt/cni/bin/cnitool add flannel /run/netns/` + name)
	var result struct {
		IPs []struct{ Address netip.Prefix }
	}
	if err := json.Unmarshal([]byte(out), &result); err != nil {
		m.t.Fatalf("%v in %s", err, out)
	}
	for _, ip := range result.IPs {
		all = append(all, box{m, ip.Address.Addr().String(), "nsenter --net=/run/netns/" + name + " "}) // unlike ip netns exec, also for an ordinary user
	}
	return all
}

func (b box) sh(command string) string {
	b.m.t.Helper()
	return b.m.sh(b.enter + command)
}

func (b box) mtu() string {
	b.m.t.Helper()
	_, mtu, _ := strings.Cut(b.sh("ip -oneline link show eth0"), " mtu ")
	mtu, _, _ = strings.Cut(mtu, " ")
	return mtu
}

// meets has two containers ping each other, and each tell the other whom it sees:
// one of 172.7.21.0/24 the other's client address; "": its own.
func (b box) meets(t *testing.T, other box, client string) {
	t.Helper()
	for _, way := range [][2]box{{b, other}, {other, b}} {
		from, to := way[0], way[1]
		lab.Eventually(t, soon, "ping from "+from.ip+" to "+to.ip, func() error {
			if out, err := from.m.try(from.enter + "busybox ping -c 1 -W 1 " + to.ip); err != nil {
				return fmt.Errorf("%s", out)
			}
			return nil
		})
		to.m.write("/etc/nginx/seen.conf", "user root; pid /run/seen.pid; events {} http { access_log off; server { listen 80; listen [::]:80; return 200 $remote_addr; } }", 0o644)
		to.m.sh("mkdir -p /var/log/nginx /var/lib/nginx")
		to.m.sh("kill $(cat /run/seen.pid) 2>/dev/null || true") // of another container, or the same before
		to.sh("nginx -c /etc/nginx/seen.conf")
		want := from.ip
		if client != "" {
			want = strings.ReplaceAll(client, "172.7.21.", strings.TrimSuffix(from.ip, from.ip[strings.LastIndexByte(from.ip, '.')+1:]))
		}
		if got := from.sh("timeout 3 busybox wget -q -O - " + lab.URL(lab.Address(to.ip))); got != want {
			t.Errorf("%s sees %s, want %s", to.ip, got, want)
		}
	}
}
