// Package check finds out why containers on two hosts do not reach each other.
// It reads facts from the kernel, from iptables, from files and from the running
// daemon, and walks along the path of a packet. Everything but the reading and
// the probes is pure; nothing is ever changed.
package check

import (
	"net/netip"
	"time"

	"flanneld/pkg/condition"
	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
	"flanneld/pkg/status"
	"flanneld/pkg/subnet"
)

// Facts are what was read about this host. Where something could not be read,
// its list is empty and Unread says why.
type Facts struct {
	Now    time.Time
	Daemon error             // why it cannot be asked; nil: Status is its answer
	Status *status.Status    // nil: there is none
	Frozen int               // the daemon's process ID where it is stopped, as by SIGSTOP
	Flags  map[string]string // that the running daemon was given, of those that fixes speak of
	PID    int               // of the running daemon, as this PID namespace has it; 0: not known
	user   user              // it runs as
	Unread []string
	Notes  []string // worth knowing, and no fault

	Links    []kernel.Link
	Routes   []kernel.FoundRoute
	Entries  kernel.Entries                // of the tunnel's device
	Paths    map[netip.Addr]Path           // where the kernel sends a packet to
	inKernel status.Kernel                 // Routes and Entries, by what they are looked up by; see Run
	before   []Finding                     // what earlier steps have found; see Run
	family   inet.Family                   // 0: all; see of
	external string                        // an interface to other hosts; see of
	bridge   string                        // that containers are behind; see of
	Rules    map[inet.Family][]kernel.Rule // that are asked before the main table, in that order
	Sysctl   map[string]string             // "net.ipv4.ip_forward": "1"; what does not exist is not there
	Kernel   string                        // release: "6.1.0-18-amd64"
	Sockets  []Socket                      // other programs' on the tunnel's UDP port
	Leasing  map[string]bool               // interfaces with an IPv6 address that is theirs for a time only

	Firewall   rules.Ruleset        // of both flavours of iptables, and of nftables beside them
	NoIPTables map[inet.Family]bool // its rules could not be read
	NoNFTables bool

	Env      subnet.Env
	EnvError error
	EnvTime  time.Time // of its last change
	// How dockerd gets its options: flanneld's unit writes them, or this script
	// does; empty: where it lies is not known.
	OptsByUnit bool
	OptsScript string
	Docker     *Process // dockerd; nil: it does not run in this network namespace

	Managers map[string]bool // of the network, that run in this network namespace, by their processes' names

	Key    *KeyFile              // of WireGuard's private key; nil: the daemon names none
	TUN    error                 // why TUN devices cannot be made; nil: they can, or it is not known
	Silent map[netip.Prefix]Vain // peers' subnets; see Sessions

	Missing      []NeededFile // without which the daemon does not start; known where it does not run
	Certificates []Certificate
	Members      []Member
}

// Path is the kernel's choice of a route.
type Path struct {
	Via netip.Addr
	Dev string
	Err error
}

// Socket is a UDP socket and the process that has it. One of IPv6 may be one of IPv4 as
// well.
type Socket struct {
	Port    int
	Process Process
	Family  inet.Family
}

// Process is a running program.
type Process struct {
	PID     int
	Name    string
	Started time.Time
	IPv6    bool // its command line has --ipv6; known of dockerd
}

// NeededFile is a file of the daemon's, the flag that names it and why it cannot be read.
type NeededFile struct {
	Flag, File string
	Err        error
}

// Certificate is a file with one, or with its key.
type Certificate struct {
	File                string
	NotBefore, NotAfter time.Time
	Err                 error
}

// Member is an etcd server, as seen from here.
type Member struct {
	URL         string
	Ahead       time.Duration // its clock's lead over ours
	Certificate *Certificate  // that it shows; nil: none
	Err         error         // why its time is not known

	Host, Port string     // of the URL
	From       netip.Addr // that this host would ask it from
	Names      []string   // that its certificate is for
	Issuer     string     // of its certificate
	Trouble    Trouble    // empty: none, or none that is known
	UsualPort  bool       // somebody listens on etcd's usual port there, which is not Port
}

// condition is what the daemon says of a code.
func (f Facts) condition(code condition.Code) (condition.Condition, bool) {
	if f.Status == nil {
		return condition.Condition{}, false
	}
	return f.Status.Conditions.Find(code)
}

// has reports whether the daemon says that one of these is so.
func (f Facts) has(codes ...condition.Code) bool {
	return f.Status != nil && f.Status.Conditions.Has(codes...)
}

func (f Facts) link(name string) (kernel.Link, bool) {
	for _, l := range f.Links {
		if l.Name == name {
			return l, true
		}
	}
	return kernel.Link{}, false
}
