package kernel

import "fmt"

// What an Op needs to know of each type of Object.

func (d Device) command(a Action) string {
	if a == Delete {
		return "ip link del " + d.Name
	}
	if tun, is := d.Kind.(UDP); is {
		return fmt.Sprintf("ip tuntap add dev %s mode %s", d.Name, tun.Type())
	}
	mac := ""
	if d.MAC != (MAC{}) {
		mac = " address " + d.MAC.String()
	}
	return fmt.Sprintf("ip link add %s%s mtu %d type %s%s", d.Name, mac, d.MTU, d.Kind.Type(), d.Kind.Args())
}
func (d Device) device() string                  { return d.Name }
func (Device) kind() string                      { return kindDevice }
func (d Device) write(w Writer, a Action) error  { return w.WriteDevice(a, d) }
func (d Device) restore(now *memory, was memory) { now.devices.putBack(was.devices, d.key()) }

func (s Setting) command(Action) string {
	set := "ip link set " + s.Dev + " "
	switch {
	case s.Up:
		return set + "up"
	case s.MTU != 0:
		return set + fmt.Sprint("mtu ", s.MTU)
	case s.MAC != MAC{}:
		return set + "address " + s.MAC.String()
	case s.NoChecksumOffload:
		return "ethtool -K " + s.Dev + " tx-checksum-ip-generic off"
	case s.Kind != nil:
		return s.Kind.Change(s.Dev)
	}
	return set + "alias " + s.Alias
}
func (s Setting) device() string                 { return s.Dev }
func (Setting) kind() string                     { return kindDevice }
func (s Setting) write(w Writer, _ Action) error { return w.WriteSetting(s) }
func (Setting) restore(*memory, memory)          {} // the device tells

func (x Address) command(a Action) string {
	s := fmt.Sprintf("ip addr %s %v dev %s", a.word(), x.Prefix, x.Dev)
	if x.nodad() && a != Delete {
		s += " nodad"
	}
	return s
}

// nodad tells an address that is used at once. Nobody else on a tunnel can have it, as it
// is leased, nor could anybody be asked: tunnels carry no multicast.
func (x Address) nodad() bool                    { return x.Prefix.Addr().Is6() }
func (x Address) device() string                 { return x.Dev }
func (Address) kind() string                     { return "address" }
func (x Address) write(w Writer, a Action) error { return w.WriteAddress(a, x) }
func (Address) restore(*memory, memory)          {} // the device tells

func (f FDB) command(a Action) string {
	return fmt.Sprintf("bridge fdb %s %v dev %s dst %v self permanent", a.word(), f.MAC, f.Dev, f.Dst)
}
func (f FDB) device() string                  { return f.Dev }
func (FDB) kind() string                      { return "fdb" }
func (f FDB) write(w Writer, a Action) error  { return w.WriteFDB(a, f) }
func (f FDB) restore(now *memory, was memory) { now.fdb.putBack(was.fdb, f.key()) }

func (n Neighbour) command(a Action) string {
	return fmt.Sprintf("ip neigh %s %v lladdr %v dev %s nud permanent", a.word(), n.Addr, n.MAC, n.Dev)
}
func (n Neighbour) device() string                  { return n.Dev }
func (Neighbour) kind() string                      { return "neighbour" }
func (n Neighbour) write(w Writer, a Action) error  { return w.WriteNeighbour(a, n) }
func (n Neighbour) restore(now *memory, was memory) { now.neighbours.putBack(was.neighbours, n.key()) }

func (n Nexthop) command(a Action) string {
	if a == Delete {
		return fmt.Sprintf("ip nexthop del id %d", n.ID)
	}
	return fmt.Sprintf("ip nexthop %s id %d %v proto %d", a.word(), n.ID, n.Hop, Protocol)
}
func (n Nexthop) device() string                  { return n.Dev }
func (Nexthop) kind() string                      { return kindNexthop }
func (n Nexthop) write(w Writer, a Action) error  { return w.WriteNexthop(a, n) }
func (n Nexthop) restore(now *memory, was memory) { now.nexthops.putBack(was.nexthops, n.key()) }

func (r Route) command(a Action) string {
	return fmt.Sprintf("ip route %s %v proto %d", a.word(), r, Protocol)
}
func (r Route) device() string                  { return r.Dev }
func (Route) kind() string                      { return "route" }
func (r Route) write(w Writer, a Action) error  { return w.WriteRoute(a, r) }
func (r Route) restore(now *memory, was memory) { now.routes.putBack(was.routes, r.key()) }

func (r FoundRoute) command(a Action) string        { return fmt.Sprintf("ip route %s %v", a.word(), r) }
func (r FoundRoute) write(w Writer, _ Action) error { return w.DeleteRoute(r) }
func (FoundRoute) restore(*memory, memory)          {} // it is found again
