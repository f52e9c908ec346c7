// Package condition is what is wrong with a running flanneld, each thing said
// once and with a type. The log, /readyz, /metrics, `flanneld status` and
// `flanneld check` are all made from it, so that none of them reads the words of
// another.
package condition

import (
	"fmt"
	"time"
)

// Condition is one thing that is not as it should be.
type Condition struct {
	Code    Code      `json:"code"`
	Subject string    `json:"subject,omitempty"` // which lease, route or chain, where several may have the same Code
	Message string    `json:"message"`           // for people: what is wrong, on what, and what to do
	Cause   string    `json:"cause,omitempty"`   // the error beneath
	Denied  bool      `json:"denied,omitempty"`  // the cause is a lack of rights
	Fix     string    `json:"fix,omitempty"`     // the command that mends it, where there is one for sure
	Since   time.Time `json:"since,omitzero"`    // zero: not known
	More    int       `json:"more,omitempty"`    // it stands for so many of its Code that are not there

	Severity Severity `json:"severity"` // by the Code
}

// Text is the whole in a line.
func (c Condition) Text() string {
	if c.Cause == "" {
		return c.Message
	}
	return c.Message + ": " + c.Cause
}

// More stands for n conditions of a code beside those that are there.
func More(n int) Condition {
	return Condition{More: n, Message: fmt.Sprintf("and %d more like these", n)}
}

// Severity says what a condition costs.
type Severity string

// The severities.
const (
	Error   Severity = "error"   // packets are lost, or will be unless somebody acts
	Warning Severity = "warning" // flanneld goes on as well as it can
	Pending Severity = "pending" // it only takes its time
)

// Code names a kind of condition. Codes are for scripts: they stay.
type Code string

// The codes, in the order in which they matter.
const (
	EtcdUnreadable      Code = "EtcdUnreadable"
	InterfaceMissing    Code = "InterfaceMissing"
	InterfaceDown       Code = "InterfaceDown"
	FamilyMissing       Code = "FamilyMissing"
	ConfigMissing       Code = "ConfigMissing"
	ConfigInvalid       Code = "ConfigInvalid"
	KeyUnusable         Code = "KeyUnusable"
	AddressesPending    Code = "AddressesPending"
	ConfigFieldIgnored  Code = "ConfigFieldIgnored"
	EtcdUnwritable      Code = "EtcdUnwritable"
	NoFreeSubnet        Code = "NoFreeSubnet"
	NoLease             Code = "NoLease"
	LeaseExpired        Code = "LeaseExpired"
	EtcdNotCurrent      Code = "EtcdNotCurrent" // not read yet, or changes go unnoticed
	EtcdWatchBroken     Code = "EtcdWatchBroken"
	ReloadFailed        Code = "ReloadFailed"
	LeaseContested      Code = "LeaseContested"
	KernelNotApplied    Code = "KernelNotApplied"
	KernelContention    Code = "KernelContention"
	RouteConflict       Code = "RouteConflict"
	RouteShadowed       Code = "RouteShadowed"
	UnderlayDiverted    Code = "UnderlayDiverted" // by what is on our device
	DeviceForeign       Code = "DeviceForeign"
	RouteSuspected      Code = "RouteSuspected"
	UnderlayOverlap     Code = "UnderlayOverlap" // what this host needs lies in the cluster's network
	SubnetFileUnwritten Code = "SubnetFileUnwritten"
	SubnetFileContested Code = "SubnetFileContested"
	FirewallUnavailable Code = "FirewallUnavailable"
	FirewallNotApplied  Code = "FirewallNotApplied"
	FirewallContention  Code = "FirewallContention"
	EtcdDegraded        Code = "EtcdDegraded" // it may have lost leases
	PeerUnreachable     Code = "PeerUnreachable"
	KeyDuplicated       Code = "KeyDuplicated"
	LeaseIgnored        Code = "LeaseIgnored"
	Starting            Code = "Starting"
)

// kind is what all conditions of a code have in common.
type kind struct {
	code     Code
	severity Severity
	unready  bool   // /readyz says no
	after    []Code // what explains it, where that is there too
	about    string // for metrics and documents
}

// kinds lists all codes in their order. Nobody changes it.
var kinds = []kind{
	{EtcdUnreadable, Error, false, []Code{UnderlayDiverted}, "etcd cannot be read."},
	{InterfaceMissing, Error, true, nil, "The external interface cannot be chosen."},
	{InterfaceDown, Error, true, nil, "The external interface is down."},
	{
		FamilyMissing, Error, false, nil,
		"The config key enables IPv4 and IPv6, and this host has no external interface for one of them: it works without.",
	},
	{ConfigMissing, Error, false, nil, "etcd has no config key."},
	{ConfigInvalid, Error, false, nil, "The config key is wrong, or this host cannot do what it asks for."},
	{KeyUnusable, Error, false, nil, "The file of WireGuard's private key cannot be read or written, or has no key."},
	{
		AddressesPending, Warning, false, nil,
		"The config key or a reservation asks for other addresses: this host keeps its own until flanneld is restarted.",
	},
	{
		ConfigFieldIgnored, Warning, false, nil,
		"A field of the config key has no effect: it is misspelt, or not for flanneld.",
	},
	{EtcdUnwritable, Error, false, []Code{EtcdUnreadable}, "This host's lease cannot be written."},
	{NoFreeSubnet, Error, false, nil, "Every subnet of the config is leased."},
	{
		NoLease,
		Error,
		true,
		[]Code{
			InterfaceMissing,
			InterfaceDown,
			ConfigMissing,
			ConfigInvalid,
			KeyUnusable,
			EtcdUnwritable,
			NoFreeSubnet,
			KernelNotApplied,
		},
		"This host has no subnet, or its lease is not in etcd.",
	},
	{LeaseExpired, Error, true, []Code{EtcdUnreadable, EtcdUnwritable}, "This host's lease has expired."},
	{
		EtcdNotCurrent, Error, true, []Code{EtcdUnreadable, UnderlayDiverted},
		"etcd has not been read yet, or not lately: changes go unnoticed.",
	},
	{
		EtcdWatchBroken, Warning, false, []Code{EtcdUnreadable},
		"No watch of etcd lasts, so it is listed every few seconds: changes are known late.",
	},
	{
		ReloadFailed, Warning, false, []Code{EtcdUnreadable},
		"flanneld was told to read the certificates or the password for etcd anew, and they do not work.",
	},
	{LeaseContested, Error, false, nil, "Another host writes this host's lease."},
	{KernelNotApplied, Error, true, nil, "Routes, neighbours, forwarding entries or devices are not as they should be."},
	{KernelContention, Error, true, nil, "Another program undoes what flanneld writes to the kernel."},
	{
		RouteConflict, Error, true, nil,
		"Somebody else's route is where one of flanneld's should be, or leads this host's own subnet away, " +
			"or the kernel's own route to that is gone.",
	},
	{RouteShadowed, Warning, false, nil, "Somebody else's route takes a part of a peer's subnet."},
	{
		UnderlayDiverted, Error, true, nil,
		"What somebody else has put on flanneld's device leads into the network what this host needs itself.",
	},
	{DeviceForeign, Warning, false, nil, "Somebody else has put an address or a route on flanneld's device."},
	{RouteSuspected, Error, false, nil, "A route was taken back, as etcd was lost right after it came."},
	{UnderlayOverlap, Warning, false, nil, "The cluster's network holds addresses that this host needs."},
	{SubnetFileUnwritten, Error, true, nil, "The subnet file cannot be written."},
	{SubnetFileContested, Error, false, nil, "Another program undoes what flanneld writes to the subnet file."},
	{FirewallUnavailable, Error, false, nil, "This host has no firewall that can be used."},
	{FirewallNotApplied, Error, true, nil, "Firewall rules are not as they should be."},
	{FirewallContention, Error, false, nil, "Another program undoes flanneld's firewall rules."},
	{EtcdDegraded, Warning, false, nil, "etcd may have lost leases."},
	{PeerUnreachable, Warning, false, nil, "No path leads to a peer."},
	{KeyDuplicated, Error, false, nil, "Two hosts have one WireGuard key: peers reach only one of them."},
	{LeaseIgnored, Warning, false, nil, "A key or a lease in etcd is of no use."},
	{Starting, Pending, true, []Code{
		EtcdUnreadable, EtcdNotCurrent, InterfaceMissing, InterfaceDown, ConfigMissing, ConfigInvalid, KeyUnusable,
		EtcdUnwritable, NoFreeSubnet, NoLease, KernelNotApplied, SubnetFileUnwritten,
		FirewallNotApplied,
	}, "Not everything is in place yet."},
}

// Codes are all there are, in their order.
func Codes() (out []Code) {
	for _, k := range kinds {
		out = append(out, k.code)
	}
	return out
}

// kind finds what all conditions of a code have in common, and its place. A code
// of another release comes last.
func (c Code) kind() (kind, int) {
	for i, k := range kinds {
		if k.code == c {
			return k, i
		}
	}
	return kind{code: c, severity: Warning}, len(kinds)
}

// Severity is what conditions of this code cost.
func (c Code) Severity() Severity {
	k, _ := c.kind()
	return k.severity
}

// Unready reports whether flanneld is not ready while there is such a condition.
func (c Code) Unready() bool {
	k, _ := c.kind()
	return k.unready
}

// About says in a sentence what the code means.
func (c Code) About() string {
	k, _ := c.kind()
	return k.about
}
