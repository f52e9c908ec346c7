package kernel

import "net/netip"

// Protocol marks our routes (rtm_protocol, see rtnetlink(7)). Values above 4
// are free for routing daemons; iproute2's rt_protos names none at 77.
const Protocol = 77

// Alias marks our devices.
const Alias = "flanneld"

// Op is one write. It prints itself as the command that does the same.
type Op struct {
	Action Action
	Object Object
	Why    string // what was wrong, for the log; may be empty
	Repair bool   // it restores what was in place before
}

// Action is what an Op does with its object.
type Action string

// The actions. A Setting is set, everything else is added, replaced or deleted.
const (
	Add     Action = "add"
	Replace Action = "replace"
	Set     Action = "set"
	Delete  Action = "delete"
)

// word is that of iproute2's commands.
func (a Action) word() string {
	if a == Delete {
		return "del"
	}
	return string(a)
}

func (o Op) String() string { return o.Object.command(o.Action) }

// Dev is the device that the object belongs to.
func (o Op) Dev() string { return o.Object.device() }

// Kind names the object's kind: "route", "nexthop", "neighbour", "fdb", "peer", "device", "address".
func (o Op) Kind() string { return o.Object.kind() }

// Write has w carry the Op out.
func (o Op) Write(w Writer) error { return o.Object.write(w, o.Action) }

// wholeDevice tells making and deleting a device, on which all else there
// depends, from changing it.
func (o Op) wholeDevice() bool { return o.Action != Set && o.Kind() == kindDevice }

const (
	kindDevice  = "device"
	kindNexthop = "nexthop"
	kindPeer    = "peer"
)

// Object is what an Op writes: a Device, Setting, Address, FDB, Neighbour, Peer, Nexthop
// or Route, or a FoundRoute to delete.
type Object interface {
	command(Action) string // of iproute2 or ethtool
	device() string
	kind() string
	write(Writer, Action) error
	restore(now *memory, was memory) // makes now say of the object what was said
}

// Writer carries Ops out, by a method for each type of Object.
type Writer interface {
	WriteDevice(Action, Device) error
	WriteSetting(Setting) error
	WriteAddress(Action, Address) error
	WriteFDB(Action, FDB) error
	WriteNeighbour(Action, Neighbour) error
	WritePeer(Action, Peer) error
	WriteNexthop(Action, Nexthop) error
	WriteRoute(Action, Route) error
	DeleteRoute(FoundRoute) error
}

// Setting is one attribute of a device; one field besides Dev is not zero.
type Setting struct {
	Dev               string
	Up                bool
	MTU               int
	MAC               MAC
	Alias             string
	NoChecksumOffload bool
	Kind              DeviceKind // what can be changed of it
}

// Address is an address of a device.
type Address struct {
	Dev    string
	Prefix netip.Prefix
}
