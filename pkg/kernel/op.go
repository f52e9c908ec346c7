package kernel

import (
	"fmt"
	"net/netip"
	"strings"
)

// Protocol marks our routes (rtm_protocol, see rtnetlink(7)). Values above 4
// are free for routing daemons; iproute2's rt_protos names none at 77.
const Protocol = 77

// Alias marks our devices.
const Alias = "flanneld"

// Op is one write. It prints itself as the command that does the same.
type Op struct {
	Verb   Verb
	Object any    // VXLAN, Setting, Address, FDB, Neighbour, Route, FoundRoute (to delete)
	Why    string // what was wrong, for the log; may be empty
	Repair bool   // it restores what was in place before
}

// Verb is what an Op does with its object.
type Verb string

const (
	Add     Verb = "add"
	Replace Verb = "replace"
	Set     Verb = "set"
	Delete  Verb = "delete"
)

// Setting is one attribute of a device; one field besides Dev is not zero.
type Setting struct {
	Dev               string
	Up                bool
	MTU               int
	MAC               MAC
	Alias             string
	NoChecksumOffload bool
}

// Address is an address of a device.
type Address struct {
	Dev    string
	Prefix netip.Prefix
}

func (o Op) String() string {
	switch x := o.Object.(type) {
	case VXLAN:
		if o.Verb == Delete {
			return "ip link del " + x.Name
		}
		return "ip link add " + x.String()
	case Setting:
		return x.String()
	case Address:
		return fmt.Sprintf("ip addr %s %v dev %s", short(o.Verb), x.Prefix, x.Dev)
	case FDB:
		return fmt.Sprintf("bridge fdb %s %v dev %s dst %v self permanent", short(o.Verb), x.MAC, x.Dev, x.Dst)
	case Neighbour:
		return fmt.Sprintf("ip neigh %s %v lladdr %v dev %s nud permanent", short(o.Verb), x.Addr, x.MAC, x.Dev)
	case FoundRoute:
		return fmt.Sprintf("ip route %s %v", short(o.Verb), x)
	case Route:
		return fmt.Sprintf("ip route %s %v proto %d", short(o.Verb), x, Protocol)
	}
	return fmt.Sprintf("%s %v", o.Verb, o.Object)
}

func short(v Verb) string {
	if v == Delete {
		return "del"
	}
	return string(v)
}

// Dev is the device that the object belongs to.
func (o Op) Dev() string {
	switch x := o.Object.(type) {
	case VXLAN:
		return x.Name
	case Setting:
		return x.Dev
	case Address:
		return x.Dev
	case FDB:
		return x.Dev
	case Neighbour:
		return x.Dev
	case FoundRoute:
		return x.Dev
	case Route:
		return x.Dev
	}
	return ""
}

// Kind names the object's kind: "route", "neighbour", "fdb", "device", "address".
func (o Op) Kind() string {
	switch o.Object.(type) {
	case Route, FoundRoute:
		return "route"
	case Neighbour:
		return "neighbour"
	case FDB:
		return "fdb"
	case Address:
		return "address"
	}
	return "device"
}

func (v VXLAN) String() string {
	words := []string{v.Name, "address", v.MAC.String(), "mtu", fmt.Sprint(v.MTU), "type vxlan id", fmt.Sprint(v.VNI),
		"local", v.Local.String(), "dev", v.Parent, "dstport", fmt.Sprint(v.Port)}
	if !v.Learning {
		words = append(words, "nolearning")
	}
	if v.GBP {
		words = append(words, "gbp")
	}
	return strings.Join(words, " ")
}

func (s Setting) String() string {
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
	}
	return set + "alias " + s.Alias
}
