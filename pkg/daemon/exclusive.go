package daemon

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"flanneld/pkg/printable"
	"flanneld/pkg/status"
)

// exclusive are the things that only one daemon of a network namespace can have: its
// networks, devices and subnet file. Each is held by an abstract unix socket of its
// name, which goes with the process (unix(7)). It is for one goroutine.
type exclusive struct {
	held map[string]*net.UnixListener
}

const (
	aNetwork = "@flanneld-network:"
	aDevice  = "@flanneld-device:"
	aFile    = "@flanneld-file:"
)

func newExclusive() *exclusive { return &exclusive{map[string]*net.UnixListener{}} }

// Hold implements agent.Exclusive. It takes all, or nothing.
func (e *exclusive) Hold(network netip.Prefix, devices []string) (err error) {
	before := maps.Clone(e.held)
	defer func() {
		for name := range e.held {
			if _, had := before[name]; err != nil && !had {
				e.drop(name)
			}
		}
	}()
	if err := e.hold(aNetwork, network.String(), "the network"); err != nil {
		return err
	}
	other, err := e.overlapping(network)
	switch {
	case err != nil:
		return err
	case other != "":
		return fmt.Errorf("the network %v overlaps %s, which another flanneld of this host%s has: "+
			"give one of them another Network", network, strings.TrimPrefix(other, aNetwork), holderOf(other))
	}
	for _, d := range devices {
		if err := e.hold(aDevice, d, "the device"); err != nil {
			return fmt.Errorf("%w: %s", err, apart(d))
		}
	}
	return nil
}

// apart is how two daemons of a host come to have different devices.
func apart(device string) string {
	if strings.HasPrefix(device, "flannel-wg") || device == "flannel0" { // of which a host has but one
		return "give one of the networks another backend"
	}
	return "give one of them another VNI"
}

// Only implements agent.Exclusive.
func (e *exclusive) Only(networks []netip.Prefix, devices []string) {
	for name := range e.held {
		network, isNetwork := strings.CutPrefix(name, aNetwork)
		device, isDevice := strings.CutPrefix(name, aDevice)
		used := !isNetwork && !isDevice || isDevice && slices.Contains(devices, device) ||
			slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.String() == network })
		if !used {
			e.drop(name)
		}
	}
}

// close lets go of everything.
func (e *exclusive) close() {
	for name := range e.held {
		e.drop(name)
	}
}

func (e *exclusive) drop(name string) {
	if l, held := e.held[name]; held {
		_ = l.Close()
		delete(e.held, name)
	}
}

// hold takes one thing, unless it is held already.
func (e *exclusive) hold(kind, thing, what string) error {
	name := status.Name(kind + thing)
	if _, held := e.held[name]; held {
		return nil
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s %s is that of another flanneld of this host%s",
			what, printable.Bounded(thing, printable.Longest), holderOf(name))
	case err != nil:
		return fmt.Errorf("make sure that no other flanneld has %s %s: %w", what, thing, err)
	}
	e.held[name] = listener
	return nil
}

// overlapping is the name of another daemon's network that overlaps one.
func (e *exclusive) overlapping(network netip.Prefix) (string, error) {
	names, err := status.Abstract()
	if err != nil {
		return "", err
	}
	for _, name := range names {
		text, isNetwork := strings.CutPrefix(name, aNetwork)
		p, err := netip.ParsePrefix(text)
		if _, ours := e.held[name]; isNetwork && err == nil && !ours && p.Overlaps(network) {
			return name, nil
		}
	}
	return "", nil
}

// holderOf names the process that holds a name: " (pid 1234)", or nothing.
func holderOf(name string) string {
	holder, _ := askHolder(&net.UnixAddr{Name: name, Net: "unix"})
	return holder
}
