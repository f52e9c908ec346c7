package e2e

import (
	"slices"
	"strings"
	"testing"

	"flanneld/internal/lab"
)

// TestFlagsOfFlannel028 starts a host with a unit file's options for flannel 0.28: what
// flanneld can do is done, what it ignores is told once and without values, and an
// empty value is as none.
func TestFlagsOfFlannel028(t *testing.T) {
	c := start(t, hostGW)
	for i, firewall := range []string{"iptables", "nftables"} {
		name := []string{"hdss7-21", "hdss7-22"}[i]
		n := c.joinAs(name, func(h *lab.Host, o *lab.FlanneldOptions) {
			h.Shell("ip link add ens34 type bridge && ip addr add 10.9.7.21/24 dev ens34 && ip link set ens34 up && " +
				"ip route replace default via 10.9.7.254 dev ens34")
			o.Args = slices.DeleteFunc(o.Args, func(arg string) bool {
				return strings.HasPrefix(arg, "--iface=") || strings.HasPrefix(arg, "--public-ip=")
			})
			o.Args = append(o.Args, "-etcd-prefix=", "-subnet-lease-renew-margin=x", "-subnet-lease-renew-margin=", "", "-iface=",
				"-iface=eth7", "--iface-can-reach=10.4.7.254", "--ip-masq", "--firewall="+firewall, "--public-ipv6=",
				"--ip-masq-fully-random-disable", "--ip-blackhole-route", "--net-config-path=/etc/kube-flannel/net-conf.json")
			o.Env = []string{"FLANNELD_PUBLIC_IPP=10.66.6.6", "FLANNELD_SET_NODE_NETWORK_UNAVAILABLE=true", "FLANNELD_KUBE_API_URL="}
		})
		n.daemon.WaitReady()
		rules := "iptables-save -t nat"
		if firewall == "nftables" {
			rules = "nft list table ip flanneld"
		}
		eventually(t, firewall+": rules with random ports", func() string {
			text := n.Shell(rules)
			if !strings.Contains(strings.ToLower(text), "masquerade") {
				return "no rules yet:\n" + text
			}
			if strings.Contains(text, "random") {
				return text
			}
			return ""
		}, "")
		log := n.daemon.Log()
		for _, want := range []string{
			`by --iface-can-reach=10.4.7.254`,
			`"Ignoring an option" name="--ip-blackhole-route"`,
			`"Ignoring an option" name="--set-node-network-unavailable"`,
			`"Ignoring an option" name="FLANNELD_PUBLIC_IPP" remark="no flag has this name: did you mean FLANNELD_PUBLIC_IP?"`,
		} {
			if strings.Count(log, want) != 1 {
				t.Errorf("not once in the log: %s\n%s", want, log)
			}
		}
		if strings.Count(log, "Ignoring an option") != 3 || strings.Contains(log, "10.66.6.6") {
			t.Errorf("three options are ignored, and no value shows:\n%s", log)
		}
		if lease := c.etcd.Get(n.leaseKey()); lease == nil || !strings.Contains(lease.Value, n.IP.String()) {
			t.Errorf("lease %+v", lease)
		}
	}
}
