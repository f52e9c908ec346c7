package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"flanneld/internal/lab"
	"flanneld/pkg/status"
)

// probed bounds how long it takes until probes tell what has become of a peer.
const probed = 2 * time.Minute

// probes is what the daemon says of a peer, by its subnet.
func (n *node) probes() (map[string]status.Probe, error) {
	out, err := n.Try(n.daemon.Program(), "status", "-o", "json")
	if err != nil {
		return nil, err
	}
	var s status.Status
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		return nil, err
	}
	if s.Probes == nil {
		return nil, fmt.Errorf("no probes in %s", out)
	}
	of := map[string]status.Probe{}
	for _, p := range s.Probes.Peers {
		of[p.Subnet.String()] = p
	}
	return of, nil
}

// joinProbing is join with a daemon that looks at peers every two seconds.
func (c *cluster) joinProbing(name string, flags ...string) *node {
	c.t.Helper()
	return c.joinAs(name, func(_ *lab.Host, o *lab.FlanneldOptions) {
		o.Binary, o.Args = lab.BinaryProbing(c.t, 2), append(o.Args, flags...)
	})
}

// hasProbed waits until peers are in these states.
func (n *node) hasProbed(t *testing.T, want map[string]string) {
	t.Helper()
	lab.Eventually(t, probed, fmt.Sprintf("probes to say %v", want), func() error {
		of, err := n.probes()
		if err != nil {
			return err
		}
		for subnet, state := range want {
			if of[subnet].State != state {
				return fmt.Errorf("%s is %+v", subnet, of[subnet])
			}
		}
		return nil
	})
}

// TestProbesFindWhatIsWrong breaks the paths to three peers, each in its way, and mends them.
func TestProbesFindWhatIsWrong(t *testing.T) {
	t.Parallel()
	c := &cluster{Lab: lab.New(t), t: t}
	c.store = &node{Host: c.Host("hdss7-12", "10.4.7.12/24")}
	c.etcd = c.EtcdOn(lab.EtcdOptions{}, c.store.Host)
	c.etcd.Set(configKey, vxLAN)
	h21 := c.joinProbing("hdss7-21", "--healthz-port=2401")
	for n := 22; n <= 25; n++ {
		// So many packets as in this test a peer would not answer: it tells one host of one a second.
		c.join(fmt.Sprintf("hdss7-%d", n)).Sysctl("net/ipv4/icmp_ratelimit", "0")
	}
	for _, n := range c.hosts {
		n.daemon.WaitReady()
	}
	well, silent, lossy, narrow := c.hosts[1], c.hosts[2], c.hosts[3], c.hosts[4]
	well.Run("iptables", "-A", "INPUT", "-p", "icmp", "-j", "DROP") // which is no fault
	all := map[string]string{well.subnet: status.Well, silent.subnet: status.Well, lossy.subnet: status.Well, narrow.subnet: status.Well}
	h21.hasProbed(t, all)
	lab.Eventually(t, probed, "what is known of peers that are well", func() error { // the kernel may time no packet at first
		of, err := h21.probes()
		for subnet, p := range of {
			if p.PathMTU != 1450 || p.RTT <= 0 || p.PublicIP != netip.MustParseAddr("10.4.7."+strings.Split(subnet, ".")[2]) {
				err = fmt.Errorf("%+v", p)
			}
		}
		return err
	})
	const wall = "iptables -t raw %s PREROUTING -i flannel.1 %s -j DROP"
	faults := map[*node]string{silent: "", lossy: "-m statistic --mode random --probability 0.4", narrow: "-m length --length 1301:65535"}
	for n, match := range faults {
		n.Shell(fmt.Sprintf(wall, "-A", match))
	}
	h21.hasProbed(t, map[string]string{well.subnet: status.Well, silent.subnet: status.Silent, lossy.subnet: status.Lossy, narrow.subnet: status.Narrow})
	text := h21.Run(h21.daemon.Program(), "status")
	for _, want := range []string{
		"probes       4 peers probed, 1 does not answer, 1 loses packets, 1 gets no full packets\n",
		"172.7.23.0/24 does not answer (for ", "): flanneld check 172.7.23.0/24\n", "172.7.24.0/24 lost ", "172.7.25.0/24 gets packets of up to 1",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	metrics := h21.Get("http://127.0.0.1:2401/metrics")
	for _, want := range []string{`peers{state="silent"} 1`, `peers{state="lossy"} 1`, `peers{state="narrow"} 1`, `peers{state="well"} 1`} {
		if !strings.Contains(metrics, "\nflanneld_peer_probe_"+want+"\n") {
			t.Errorf("no %q in\n%s", want, metrics)
		}
	}
	for _, none := range []string{`flanneld_peer_probe_packets_total{result="answered"} 0`, `flanneld_peer_probe_packets_total{result="lost"} 0`, "flanneld_peer_probe_rtt_seconds_count 0"} {
		if strings.Contains(metrics, none+"\n") {
			t.Errorf("%s", none)
		}
	}
	if !strings.Contains(metrics, "\nflanneld_ready 1\n") || !strings.Contains(metrics, "\nflanneld_problems 0\n") {
		t.Errorf("probes make the host unready:\n%s", metrics)
	}
	for n, match := range faults {
		n.Shell(fmt.Sprintf(wall, "-D", match))
	}
	h21.hasProbed(t, all)
	for _, want := range []string{`"Peers do not answer probes; flanneld check tries the path" peers="172.7.23.0/24"`, `"Peers answer probes again" peers="`} {
		if !strings.Contains(h21.daemon.Log(), want) {
			t.Errorf("no %s in\n%s", want, h21.daemon.Log())
		}
	}
}

// TestNoFalseAlarm: who answers as a peer should is well, by each kind of tunnel and without
// one, in each family, before dockerd was started, and after a change of the backend.
func TestNoFalseAlarm(t *testing.T) {
	for _, tt := range []struct {
		stack lab.Stack
		modes []mode // one after the other
	}{
		{lab.Stacks[2], []mode{byHostGW, byVXLAN}},
		{lab.Stacks[0], []mode{byUDP}},
		{lab.Stacks[2], []mode{byWireGuard}},
	} {
		t.Run(tt.modes[0].name, func(t *testing.T) {
			t.Parallel()
			c := &cluster{Lab: lab.New(t), t: t, stack: tt.stack}
			c.store = &node{Host: c.Host("hdss7-12", c.families().Addrs(7, 12))}
			c.etcd = c.EtcdOn(lab.EtcdOptions{}, c.store.Host)
			for i, m := range tt.modes {
				c.etcd.Set(configKey, c.families().Config(m.backend))
				if i == 0 {
					c.joinProbing("hdss7-21").box = c.hosts[0].Container("c1")
					c.joinProbing("hdss7-22") // without docker
				}
				for _, n := range c.hosts {
					n.daemon.WaitReady()
				}
				changed := time.Now()
				for j, n := range c.hosts {
					peer := c.hosts[1-j]
					lab.Eventually(t, probed, fmt.Sprintf("%s to probe %s by %s", n, peer, m.name), func() error {
						of, err := n.probes()
						if err != nil {
							return err
						}
						for _, f := range c.families() {
							p := of[lab.Subnet(f, peer.number())]
							if p.Last.Before(changed.Add(15*time.Second)) || p.PathMTU < 1280 {
								return fmt.Errorf("%v: %+v", f, p)
							}
							if !p.Well() {
								t.Errorf("%s, %s, %v: %+v", m.name, n, f, p)
							}
						}
						return nil
					})
				}
			}
			for _, n := range c.hosts {
				for _, alarm := range []string{"do not answer probes", "Probes of peers get lost", "Peers answer short probes", "Cannot probe peers", "Not probing peers"} {
					if strings.Contains(n.daemon.Log(), alarm) {
						t.Errorf("%s is said:\n%s", alarm, n.daemon.Log())
					}
				}
			}
		})
	}
}

// TestWithoutProbes: the flag switches them off, and so does a lack of rights, which is said once.
func TestWithoutProbes(t *testing.T) {
	c := start(t, hostGW, "hdss7-21")
	off := c.join("hdss7-22", "--peer-probes=false")
	off.daemon.WaitReady()
	unable := &node{Host: c.Host("hdss7-31", "10.4.7.31/24").SubnetEnv("172.7.31.1/24")}
	unable.daemon = unable.FlanneldAs(func(o *lab.FlanneldOptions) {
		o.Args = append([]string{"--bounding-set=-net_raw", "--inh-caps=-net_raw", lab.Binary(t), "--iptables-forward-rules=false"}, o.Args...)
		o.Binary = "/usr/bin/setpriv"
	})
	unable.daemon.WaitReady()
	lab.Eventually(t, probed, "the log to say that peers are not probed", func() error {
		if log := unable.daemon.Log(); strings.Count(log, `"Not probing peers, which needs the capability CAP_NET_RAW"`) != 1 {
			return fmt.Errorf("%s", log)
		}
		return nil
	})
	for _, n := range []*node{off, unable} {
		text := n.Run(lab.Binary(t), "status")
		if strings.Contains(text, "probe") || !strings.Contains(text, ", ready\n") {
			t.Errorf("%s says\n%s", n, text)
		}
	}
}
