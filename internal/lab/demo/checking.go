package main

import (
	"fmt"
	"os"
	"strings"

	"flanneld/internal/lab"
)

// showCheck breaks hosts in three ways, and has flanneld find each.
func showCheck(g *guide, etcd *lab.Etcd, h21, h22 *station) {
	g.step("Back to the tunnel, and a look inside", "")
	etcd.Set(configKey, vxlan)
	lab.Eventually(g, soon, "the route by the tunnel", func() error {
		if routes := h21.Run("ip", "route"); !strings.Contains(routes, "172.7.22.0/24 via 172.7.22.0 dev flannel.1") {
			return fmt.Errorf("it is not in:\n%s", routes)
		}
		return nil
	})
	for _, h := range []*station{h21, h22} { // what a restart of docker does
		h.Shell("ip link set docker0 mtu 1450; ip link set veth2 mtu 1450")
		h.container.Run("ip", "link", "set", "eth0", "mtu", "1450")
	}
	out, _ := flanneld(g, h21, "status")
	g.show(h21, "flanneld status", out)
	lab.Eventually(g, soon, "a check that finds nothing", func() error { return clean(g, h21) })

	g.step("A REJECT rule comes in front of flanneld's; flanneld check names it and its fix", "a REJECT rule")
	g.run(h21, "iptables -I FORWARD -s 172.7.0.0/16 -j REJECT")
	fix := found(g, h21,
		"what containers send to 172.7.22.0/24 is dropped, by: iptables -A FORWARD -s 172.7.0.0/16 -j REJECT")
	g.run(h21, fix)
	h21.container.Reach(h22.container, soon)

	g.step("Docker hides its containers behind the host's address", "docker's MASQUERADE")
	g.run(h21, "iptables -t nat -A POSTROUTING -s 172.7.21.0/24 ! -o docker0 -j MASQUERADE")
	web := fmt.Sprintf("http://%v/", h22.container.IP)
	g.show(h21.container, "curl "+web, h21.container.Get(web))
	found(g, h21, "containers on 10.4.7.22 see this host's address in place of the container's")
	g.run(h21, "iptables -t nat -D POSTROUTING -s 172.7.21.0/24 ! -o docker0 -j MASQUERADE; "+
		"iptables -t nat -I POSTROUTING -s 172.7.21.0/24 ! -d 172.7.0.0/16 ! -o docker0 -j MASQUERADE")
	hello := h21.container.Get(web)
	g.show(h21.container, "curl "+web, hello)
	g.expect("the client that the web server sees", strings.TrimSpace(hello), fmt.Sprintf("hello, %v", h21.container.IP))

	g.step("A firewall on the other host drops UDP", "a blocked port, each found with its fix")
	g.run(h22, "iptables -A INPUT -p udp --dport 8472 -j DROP")
	fix = found(g, h21, "UDP port 8472 seems to be blocked")
	g.run(h22, fix)
	h21.container.Reach(h22.container, soon)
	lab.Eventually(g, soon, "a check that finds nothing", func() error { return clean(g, h21) })
	g.print(fmt.Sprintf("%s# flanneld check > /dev/null && echo all is well\nall is well", h21))
}

// run prints a command and runs it.
func (g *guide) run(h *station, line string) {
	g.print(fmt.Sprintf("%s# %s", h, line))
	h.Shell(line)
}

// flanneld runs a subcommand on a host.
func flanneld(g *guide, h *station, args ...string) (string, error) {
	cmd := h.Command(lab.Binary(g), args...)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func clean(g *guide, h *station) error {
	if out, err := flanneld(g, h, "check"); err != nil {
		return fmt.Errorf("%w:\n%s", err, out)
	}
	return nil
}

// found shows the one fault that flanneld finds, and returns the first command
// that fixes it.
func found(g *guide, h *station, want string) (fix string) {
	var fault string
	lab.Eventually(g, soon, "the fault to be found", func() error {
		out, _ := flanneld(g, h, "check", "172.7.22.0/24")
		if fault = faultIn(out); strings.Count(out, "FAULT") != 1 || !strings.Contains(fault, want) {
			return fmt.Errorf("no %q, or more, in:\n%s", want, out)
		}
		return nil
	})
	g.show(h, "flanneld check 172.7.22.0/24", "...\n"+fault+"...")
	_, fix, _ = strings.Cut(fault, "fix:")
	fix, _, _ = strings.Cut(strings.TrimSpace(fix), "\n")
	return fix
}

// faultIn is the first fault, up to the next finding.
func faultIn(out string) (fault string) {
	for line := range strings.Lines(out) {
		switch {
		case strings.HasPrefix(line, "FAULT"):
			fault += line
		case fault != "" && !strings.HasPrefix(line, " "):
			return fault
		case fault != "":
			fault += line
		}
	}
	return fault
}
