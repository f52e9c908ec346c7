package e2e

import (
	"fmt"
	"strings"
	"testing"

	"flanneld/internal/lab"
)

// overUnderlay is a config whose Network holds the hosts' own addresses.
const overUnderlay = `{"Network": "10.4.0.0/16", "Backend": {"Type": "VxLAN"}}`

// behindRouter is a cluster whose etcd is in a segment of its own.
func behindRouter(t *testing.T, config string) *cluster {
	t.Parallel()
	c := &cluster{Lab: lab.New(t), t: t}
	store := c.Host("hdss8-12", "10.4.8.12/24")
	c.Router("gateway", "10.4.7.254/24", "10.4.8.254/24")
	c.etcd = c.EtcdOn(lab.EtcdOptions{}, store)
	c.etcd.Set(configKey, config)
	return c
}

// overlay are the host's routes that flanneld wrote, one a line.
func (n *node) overlay() string {
	var out []string
	for line := range strings.Lines(n.Run("ip", "-4", "route", "show", "proto", "77")) {
		out = append(out, strings.TrimSpace(line))
	}
	return strings.Join(out, "\n")
}

// A network over the hosts' own addresses, with leases of an older flannel's that
// take etcd, the gateway and half of the hosts' network, and what an earlier run has
// made of them: a host that starts reaches etcd, and keeps to reach it.
func TestNetworkOverTheUnderlay(t *testing.T) {
	c := behindRouter(t, overUnderlay)
	vtep := func(n int) string {
		return fmt.Sprintf(`{"PublicIP":"10.4.7.%d","BackendType":"vxlan","BackendData":{"VtepMAC":"0a:00:00:00:00:%02x"}}`, n, n&0xff)
	}
	for subnet, value := range map[string]string{
		"10.4.7.0-24":  strings.Replace(vtep(23), "10.4.7.23", "10.4.9.23", 1), // the hosts' own network
		"10.4.8.0-24":  vtep(22),                                               // etcd
		"10.4.22.0-24": vtep(22),                                               // a good one
		"10.4.23.0-24": vtep(255),                                              // by a broadcast address
		"10.4.24.0-24": vtep(0),                                                // by a network address
	} {
		c.etcd.Set(leases+subnet, value)
	}
	h := &node{Host: c.Host("hdss7-21", "10.4.7.21/24")}
	h.SubnetEnv("10.4.8.1/24")
	h.Shell(`ip link add flannel.1 type vxlan id 1 local 10.4.7.21 dev ens33 dstport 8472 nolearning
		ip link set flannel.1 alias flanneld up
		ip neigh add 10.4.8.0 lladdr 0a:00:00:00:00:16 dev flannel.1 nud permanent
		ip route add 10.4.8.0/24 via 10.4.8.0 dev flannel.1 onlink proto 77
		ip route add 10.4.22.0/24 via 10.4.22.0 dev flannel.1 onlink proto 77`)
	h.daemon = h.Flanneld()
	h.daemon.WaitReady()
	eventually(t, "the one good route", h.overlay, "10.4.22.0/24 via 10.4.22.0 dev flannel.1 onlink")
	eventually(t, "the neighbours", func() string { return h.Run("ip", "neigh", "show", "dev", "flannel.1", "10.4.8.0") }, "")
	for key, why := range map[string]string{
		"10.4.8.0-24":  "takes away 10.4.8.12 (etcd), which this host needs",
		"10.4.7.0-24":  "takes away 10.4.7.254 (the default gateway), which this host needs",
		"10.4.23.0-24": "has the public IP 10.4.7.255, which is the broadcast address of 10.4.7.0/24 (the network of ens33) and can be no host",
		"10.4.24.0-24": "has the public IP 10.4.7.0, which is the network address of",
	} {
		h.daemon.WaitLog(fmt.Sprintf(`Ignoring the lease \"/coreos.com/network/subnets/%s\": it %s`, key, why))
	}
	h.daemon.WaitLog("Took back the route to 10.4.8.0/24, which led 10.4.8.12 (etcd) into the network")
	if env := read(t, h.SubnetFile()); strings.Contains(env, "10.4.8.1/") || strings.Contains(env, "10.4.7.1/") {
		t.Errorf("it has leased\n%s", env)
	}
	// It hears of what comes later.
	c.etcd.Set(leases+"10.4.25.0-24", vtep(25))
	eventually(t, "a later route", h.overlay, "10.4.22.0/24 via 10.4.22.0 dev flannel.1 onlink\n10.4.25.0/24 via 10.4.25.0 dev flannel.1 onlink")
	out, _ := runCommand(t, h.Host, "check")
	if !strings.Contains(out, "the cluster's network 10.4.0.0/16 holds 10.4.8.12 (etcd)") {
		t.Errorf("check says nothing of it:\n%s", out)
	}
}

// With SubnetLen 25 a lease takes half of the hosts' network, and the gateway goes.
func TestHalfOfTheUnderlay(t *testing.T) {
	c := behindRouter(t, `{"Network": "10.4.0.0/16", "SubnetLen": 25, "Backend": {"Type": "host-gw"}}`)
	c.etcd.Set(leases+"10.4.7.128-25", `{"PublicIP":"10.4.7.23","BackendType":"host-gw"}`)
	c.etcd.Set(leases+"10.4.22.0-25", `{"PublicIP":"10.4.7.22","BackendType":"host-gw"}`)
	h := &node{Host: c.Host("hdss7-21", "10.4.7.21/24")}
	h.daemon = h.Flanneld()
	h.daemon.WaitReady()
	eventually(t, "the one good route", h.overlay, "10.4.22.0/25 via 10.4.7.22 dev ens33")
	h.daemon.WaitLog(`Ignoring the lease \"/coreos.com/network/subnets/10.4.7.128-25\": it takes away 10.4.7.254 (the default gateway), which this host needs`)
}

// A config over the hosts' own addresses is not written, and check says why.
func TestConfigOverTheUnderlay(t *testing.T) {
	c := behindRouter(t, hostGW)
	h := c.Host("hdss7-21", "10.4.7.21/24")
	const why = `Network "10.4.0.0/16" holds 10.4.8.12 (etcd), which hosts need`
	at := "--etcd-endpoints=" + strings.Join(c.etcd.Endpoints(), ",")
	out, code := runCommand(t, h, "config", "set", "--yes", overUnderlay, at)
	expect(t, "config set", out, code, 1, why)
	out, code = runCommand(t, h, "config", "check", overUnderlay, at)
	expect(t, "config check of a text", out, code, 1, why)
	if got := c.etcd.Get(configKey).Value; got != hostGW {
		t.Errorf("the config became %s", got)
	}
	c.etcd.Set(configKey, overUnderlay)
	out, code = runCommand(t, h, "config", "check", at)
	expect(t, "config check of the key", out, code, 1, why)
	const apart = `{"Network": "10.4.0.0/16", "SubnetMin": "10.4.128.0", "Backend": {"Type": "VxLAN"}}`
	out, code = runCommand(t, h, "config", "set", "--yes", apart, at)
	expect(t, "they are left out", out, code, 0, "written: "+apart)
}

// Etcd is reached by a VPN, whose far end lies in a peer's subnet: no route tells.
// So what came right before etcd was lost goes again, and the rest works on.
func TestEtcdLostAfterARoute(t *testing.T) {
	t.Parallel()
	c := &cluster{Lab: lab.New(t), t: t}
	store := c.Host("etcd", "10.99.0.12/24")
	far := c.Router("far-end", "10.99.0.254/24", "10.4.8.253/24")
	c.Router("gateway", "10.4.7.254/24", "10.4.8.254/24")
	h := &node{Host: c.Host("hdss7-21", "10.4.7.21/24")}
	const vpn = `ip link add wire0 type vxlan id 9 remote %s dstport 4790
		ip addr add %s dev wire0
		ip link set wire0 up
		ip route add %s`
	far.Shell(fmt.Sprintf(vpn, "10.4.7.21", "10.98.0.2/30", "10.4.7.0/24 via 10.4.8.254"))
	h.Shell(fmt.Sprintf(vpn, "10.4.8.253", "10.98.0.1/30", "10.99.0.0/24 via 10.98.0.2"))
	c.etcd = c.EtcdOn(lab.EtcdOptions{Newest: true}, store)
	c.etcd.Set(configKey, `{"Network": "10.4.0.0/16", "Backend": {"Type": "host-gw"}}`)
	h.daemon = h.Flanneld()
	h.daemon.WaitReady()
	c.etcd.Set(leases+"10.4.8.0-24", `{"PublicIP":"10.4.7.22","BackendType":"host-gw"}`)
	eventually(t, "the route", h.overlay, "10.4.8.0/24 via 10.4.7.22 dev ens33")
	lab.Eventually(t, 4*soon, "the end of it", func() error {
		if got := h.overlay(); got != "" {
			return fmt.Errorf("%s", got)
		}
		return nil
	})
	h.daemon.WaitLog("Took back the route to 10.4.8.0/24, as etcd was lost right after it came")
	c.etcd.Set(leases+"10.4.25.0-24", `{"PublicIP":"10.4.7.25","BackendType":"host-gw"}`)
	lab.Eventually(t, 2*soon, "a later route", func() error {
		if got := h.overlay(); !strings.Contains(got, "10.4.25.0/24 via 10.4.7.25 dev ens33") {
			return fmt.Errorf("%s", got)
		}
		return nil
	})
}
