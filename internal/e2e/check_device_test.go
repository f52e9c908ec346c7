package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"flanneld/internal/lab"
	"flanneld/pkg/check"
)

// TestCheckDevice breaks what the daemon repairs at once: it may not, without
// the capability. It has been there with it before, as after an update of its
// unit.
func TestCheckDevice(t *testing.T) {
	c := start(t, vxLAN, "hdss7-21", "hdss7-22")
	h := &node{Host: c.Host("hdss7-31", "10.4.7.31/24").SubnetEnv("172.7.31.1/24")}
	able := h.Flanneld("--iptables-forward-rules=false")
	h.box = h.Container("c1")
	h.daemon = able
	clean(t, h, "all to be well", "")
	able.Stop()
	unable := h.FlanneldAs(func(o *lab.FlanneldOptions) {
		o.Args = append([]string{"--bounding-set=-net_admin", "--inh-caps=-net_admin", lab.Binary(t), "--iptables-forward-rules=false"}, o.Args...)
		o.Binary = "/usr/bin/setpriv"
	})
	h.daemon = unable
	h.daemon.WaitReady()
	const fix = "start flanneld as root, or with the capability CAP_NET_ADMIN, as systemd/flanneld.service does"
	repair := func() {
		unable.Stop()
		able.Restart()
		able.WaitReady()
	}
	disable := func() {
		if !unable.Running() {
			able.Stop()
			unable.Restart()
			unable.WaitReady()
		}
	}
	entry := strings.Fields(h.Run("bridge", "fdb", "show", "dev", "flannel.1"))[0]
	troubles := []trouble{
		{name: "the device is down", how: "ip link set flannel.1 down", step: "device", text: "flannel.1 is down"},
		{name: "the device has another MTU", how: "ip link set flannel.1 mtu 1400", step: "device", text: "flannel.1 has MTU 1400, and flanneld wants 1450"},
		{name: "the device has another address", how: "ip address flush dev flannel.1; ip address add 172.7.99.9/32 dev flannel.1", step: "device", text: "flannel.1 has 172.7.99.9/32, and flanneld wants 172.7.31.0",
			notes: []string{"foreign"}},
		{name: "the device is gone", how: "ip link del flannel.1", step: "device", text: "the device flannel.1 is not there"},
		{name: "the device is somebody else's", how: "ip link del flannel.1; ip link add flannel.1 up mtu 1450 type bridge", step: "device",
			text: "flannel.1 is not flanneld's device, but somebody else's of kind bridge"},
		{name: "the device is another tunnel's", how: "ip link del flannel.1; ip link add flannel.1 up mtu 1450 type vxlan id 1 dev ens33 dstport 4789; ip link set flannel.1 alias flanneld",
			step: "device", text: "flannel.1 has VNI 1 and port 4789, and flanneld wants VNI 1 and port 8472"},
		{name: "no route", how: "ip route del 172.7.22.0/24", step: "route", text: "the way to 172.7.22.0/24 is not as flanneld wants it: no route"},
		{name: "no neighbour", how: "ip neigh del 172.7.22.0 dev flannel.1", step: "route", text: "neighbour entry for 172.7.22.0"},
		{name: "no forwarding entry", how: "bridge fdb del " + entry + " dev flannel.1", step: "route", text: "no forwarding entry for " + entry},
		{name: "a forwarding entry to another host", how: "bridge fdb replace " + entry + " dev flannel.1 dst 10.4.7.99", step: "route", text: "the forwarding entry for " + entry + " leads to 10.4.7.99"},
	}
	for i := range troubles {
		tr := &troubles[i]
		tr.on, tr.fix, tr.repair, tr.after = h, fix, repair, []string{"flanneld"} // iptables refuses as well
		how := tr.how
		tr.do, tr.how = func() { disable(); h.Shell(how) }, ""
	}
	findAll(t, troubles)
	t.Run("from the start", func(t *testing.T) {
		able.Stop()
		h.Shell("ip link del flannel.1")
		trouble{on: h, do: unable.Restart, step: "lease", text: "this host has no subnet, as the kernel does not take what flanneld needs: ip link add flannel.1", fix: fix, repair: repair}.find(t)
	})
}

// TestCheckFindsWhatWasThereBefore has interfaces, ports and devices that were in
// use before flanneld came.
func TestCheckFindsWhatWasThereBefore(t *testing.T) {
	c := start(t, vxLAN, "hdss7-22")
	notes := []string{"docker"} // there is none

	other := &node{Host: c.Host("hdss7-31", "10.4.7.31/24").SubnetEnv("172.7.31.1/24")}
	trouble{on: other, how: "ip link add tunnel9 type vxlan id 1 dev ens33 dstport 8472 nolearning; ip link set tunnel9 up", do: func() { other.daemon = other.Flanneld() },
		step: "device", text: "tunnel9 is a vxlan device with the VNI 1 and port 8472 that flanneld needs", fix: "ip link del tunnel9", notes: notes}.find(t)

	held := &node{Host: c.Host("hdss7-32", "10.4.7.32/24").SubnetEnv("172.7.32.1/24")}
	holder := held.Command(testBinary(t))
	holder.Env = append(os.Environ(), holdEnv+"=8472")
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, soon, "the port to be held", func() error {
		if bound := held.Run("cat", "/proc/net/udp"); !strings.Contains(bound, fmt.Sprintf(":%04X ", 8472)) {
			return errors.New(bound)
		}
		return nil
	})
	end := func() { _ = holder.Process.Kill(); _ = holder.Wait() }
	defer end()
	trouble{on: held, do: func() { held.daemon = held.Flanneld() }, step: "device", text: fmt.Sprintf("UDP port 8472, the tunnel's, is held by e2e.test (pid %d)", holder.Process.Pid),
		fix: fmt.Sprintf("stop e2e.test (pid %d), or give flanneld another Port in Backend, by flanneld config set", holder.Process.Pid), repair: end, notes: notes}.find(t)

	none := &node{Host: c.Host("hdss7-33", "10.4.7.33/24").SubnetEnv("172.7.33.1/24")}
	trouble{on: none, how: "ip route del default", do: func() {
		none.daemon = none.FlanneldAs(func(o *lab.FlanneldOptions) { o.Args = without(without(o.Args, "--iface="), "--public-ip=") })
	}, step: "interface", text: "flanneld finds no external interface: none is named by --iface, and the default route names none", fix: "restart flanneld with --iface=ens33",
		repair: func() { none.daemon.Stop(); none.daemon = none.Flanneld(); none.daemon.WaitReady() }, notes: notes}.find(t)

	gone := &node{Host: c.Host("hdss7-34", "10.4.7.34/24")}
	gone.daemon = gone.Flanneld()
	gone.daemon.WaitReady()
	trouble{on: gone, how: "ip link del ens33", step: "interface", text: "the external interface ens33 is gone", fix: "ip -brief address"}.expect(t)

	// Two hosts with one address: the lease goes back and forth.
	clone := c.Host("hdss7-37", "10.4.7.37/24")
	var twin *lab.Daemon
	trouble{on: c.hosts[0], do: func() {
		twin = clone.FlanneldAs(func(o *lab.FlanneldOptions) { o.Args[0] = "--public-ip=10.4.7.22" })
	}, step: "lease", text: "another host writes the lease of 172.7.22.0/24: it seems to have the public IP 10.4.7.22 too",
		fix: "give each host its own by --public-ip or --iface, and restart flanneld"}.expect(t)
	twin.Stop()

	fought(t, other)
}

// fought has something undo flanneld's work without end.
func fought(t *testing.T, h *node) {
	stop, fighting := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(fighting)
		for {
			select {
			case <-stop:
				return
			default:
				_, _ = h.Try("ip", "neigh", "replace", "172.7.22.0", "lladdr", "0a:00:00:00:00:99", "dev", "flannel.1", "nud", "permanent")
			}
		}
	}()
	var fix string
	lab.Eventually(t, 3*soon, "the fight to be noticed", func() error {
		found, code := checked(t, h, "172.7.22.0/24")
		first := firstOf(found, check.Fault)
		if code != 1 || !strings.Contains(shown(found), "FAULT flanneld: another program undoes flanneld's work") || first.Step != "route" ||
			!strings.Contains(first.Text, "the neighbour entry for 172.7.22.0 says 0a:00:00:00:00:99") {
			return errors.New(shown(found))
		}
		fix, _, _ = strings.Cut(first.Fix[0], "   # ")
		return nil
	})
	close(stop)
	<-fighting
	if fix != "systemctl restart flanneld" {
		t.Errorf("the fix is %q", fix)
	}
	h.typed(t, fix)
	clean(t, h, "the fight to be over", "172.7.22.0/24", "docker")
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

func testBinary(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// without leaves out flags that begin so.
func without(args []string, start string) (out []string) {
	for _, a := range args {
		if !strings.HasPrefix(a, start) {
			out = append(out, a)
		}
	}
	return out
}
