package main

import (
	"fmt"
	"strings"
	"time"

	"flanneld/internal/lab"
)

// The tutorial's other two modes.
const (
	vxlan         = `{"Network": "172.7.0.0/16", "Backend": {"Type": "VxLAN"}}`
	directRouting = `{"Network": "172.7.0.0/16", "Backend": {"Type": "VxLAN","Directrouting": true}}`
)

// showSwitches changes the mode while the containers ping each other.
func showSwitches(g *guide, etcd *lab.Etcd, h21, h22 *station) {
	g.step("The config key changes to vxlan; both daemons follow, under running pings",
		"a switch to vxlan without a lost ping")
	showSwitch(g, etcd, h21, h22, vxlan, "172.7.22.0/24 via 172.7.22.0 dev flannel.1")
	g.show(h21, "ip -d link show flannel.1 | grep vxlan",
		grep(h21.Run("ip", "-d", "link", "show", "flannel.1"), "vxlan id"))

	g.step("And to direct routing: plain routes on one segment, the tunnel across routers", "one to direct routing")
	showSwitch(g, etcd, h21, h22, directRouting, "172.7.22.0/24 via 10.4.7.22 dev ens33")
}

func showSwitch(g *guide, etcd *lab.Etcd, h21, h22 *station, config, route string) {
	there := h21.container.PingEvery(10*time.Millisecond, h22.container)
	back := h22.container.PingEvery(10*time.Millisecond, h21.container)
	etcd.Set(configKey, config)
	g.print(fmt.Sprintf("%s# etcdctl %s %s '%s'", g.hosts[0], setVerb(), configKey, config))
	lab.Eventually(g, soon, "the route by the new mode", func() error {
		if routes := h21.Run("ip", "route"); !strings.Contains(routes, route) {
			return fmt.Errorf("there is no %q in:\n%s", route, routes)
		}
		return nil
	})
	time.Sleep(300 * time.Millisecond)
	g.show(h21, "ip route | grep 172.7.22.0", grep(h21.Run("ip", "route"), "172.7.22.0"))
	for _, p := range []struct {
		from *lab.Container
		lab.Stats
	}{{h21.container, there.Stop()}, {h22.container, back.Stop()}} {
		g.print(fmt.Sprintf("pings from %s meanwhile: %d sent, %d lost", p.from, p.Sent, p.Lost))
		if p.Lost > 0 {
			g.Fatalf("%s lost pings during the switch: %v", p.from, p.Stats)
		}
	}
}

// showRepair undoes flanneld's work by hand.
func showRepair(g *guide, h21, h22 *station) {
	g.step("Somebody deletes a route; it is back before anybody notices", "a repair")
	const route = "172.7.22.0/24"
	h21.Run("ip", "route", "del", route)
	g.print(fmt.Sprintf("%s# ip route del %s", h21, route))
	began := time.Now()
	lab.Eventually(g, soon, "the repair", func() error {
		if !strings.Contains(h21.Run("ip", "route"), route) {
			return fmt.Errorf("the route to %s is missing", route)
		}
		return nil
	})
	g.show(h21, "ip route | grep 172.7.22.0", grep(h21.Run("ip", "route"), "172.7.22.0"))
	g.print(fmt.Sprintf("back after %d ms at most", time.Since(began).Milliseconds()))
	h21.container.Ping(h22.container)
}

func grep(text, word string) string {
	var out []string
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return strings.Join(out, "\n")
}
