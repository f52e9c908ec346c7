package kerneltest

import (
	"slices"
	"strings"

	"flanneld/pkg/kernel"
)

// String is Render of this kernel.
func (k *Kernel) String() string {
	defer func(fail func(string) error) { k.Fail = fail }(k.Fail)
	k.Fail = nil
	return Render(k)
}

// Render is what a kernel has, sorted, as the commands that would make it: the
// tunnel devices with all that is on them, the next hop objects, and the routes but those of connected
// networks. An error reads as the one line there is.
func Render(c kernel.Conn) string {
	links, err := c.Links()
	if err != nil {
		return err.Error()
	}
	routes, err := c.Routes()
	if err != nil {
		return err.Error()
	}
	var lines []string
	for _, l := range links {
		if l.Kind == nil {
			continue
		}
		entries, err := c.Entries(l)
		if err != nil {
			return err.Error()
		}
		lines = append(lines, device(l)...)
		lines = append(lines, onDevice(entries)...)
	}
	nexthops, err := c.Nexthops()
	if err != nil {
		return err.Error()
	}
	for _, n := range nexthops {
		lines = append(lines, nexthop(n))
	}
	for _, r := range routes {
		if r.Protocol != protocols["kernel"] {
			lines = append(lines, route(r))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func device(l kernel.Link) (lines []string) {
	d := kernel.Device{Name: l.Name, Kind: l.Kind, MAC: l.MAC, MTU: l.MTU}
	line := kernel.Op{Action: kernel.Add, Object: d}.String()
	if l.Alias != "" {
		line += " alias " + l.Alias
	}
	if l.Up {
		line += " up"
	}
	if l.NoChecksumOffload {
		line += " # checksums by the CPU"
	}
	lines = append(lines, line)
	for _, a := range l.Addrs {
		if a.Addr().Is6() && a.LinkLocal { // which Linux gives by itself
			continue
		}
		lines = append(lines, kernel.Op{Action: kernel.Add, Object: kernel.Address{Dev: l.Name, Prefix: a.Prefix}}.String())
	}
	return lines
}

func onDevice(e kernel.Entries) (lines []string) {
	for _, n := range e.Neighbours {
		if n.Addr.IsMulticast() { // which Linux knows by itself
			continue
		}
		line := kernel.Op{Action: kernel.Add, Object: n.Neighbour}.String()
		if !n.Permanent {
			line = strings.Replace(line, "permanent", "reachable", 1)
		}
		lines = append(lines, line)
	}
	for _, p := range e.Peers {
		line := kernel.Op{Action: kernel.Add, Object: p.Peer}.String()
		if p.More {
			line += " # and more"
		}
		lines = append(lines, line)
	}
	for _, f := range e.FDB {
		line := kernel.Op{Action: kernel.Add, Object: f.FDB}.String()
		if !f.Permanent {
			line = strings.Replace(line, "permanent", "dynamic", 1)
		}
		lines = append(lines, line)
	}
	return lines
}

func route(r kernel.FoundRoute) string {
	line := "ip route add " + r.String()
	if r.Special {
		line += " # and more"
	}
	return line
}
