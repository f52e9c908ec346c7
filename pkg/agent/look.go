package agent

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"k8s.io/klog/v2"

	"flanneld/pkg/backend"
	"flanneld/pkg/condition"
	"flanneld/pkg/extif"
	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
	"flanneld/pkg/subnet"
)

// inputs are what a setup is made from.
type inputs struct {
	config          subnet.Entry // but for its place in the store
	noConfig        subnet.NoConfig
	link            string
	index, mtu      int
	local, publicIP netip.Addr
	living          string // keys of leases that seemed to be this host's
}

// lookAround reads the host's interfaces and chooses the external one.
func (a *Agent) lookAround(view subnet.View) (backend.Host, []kernel.Link, error) {
	links, err := a.Kernel.Links()
	if err != nil {
		return backend.Host{}, nil, fmt.Errorf("list interfaces: %w", err)
	}
	choice, err := extif.Choose(inet.IPv4, a.External, links, func() (string, error) { return a.routeDev(links) })
	if err != nil {
		a.Changes.Filter(nil, nil)
		return backend.Host{}, nil, err
	}
	host := backend.Host{Link: choice.Link, Local: choice.Addr, PublicIP: choice.PublicIP, Links: links}
	if host, err = a.stay(host, choice); err != nil {
		return host, links, err
	}
	a.self = selfOf(host, a.Former.Subnet)
	host.Lease = formerLease(view, a.self, subnet.Hint).Attrs
	host.Others = others(view, a.self)
	return host, links, err
}

// routeDev keeps to the interface chosen at first, for as long as it exists:
// a VPN that takes the route over does not move this host.
func (a *Agent) routeDev(links []kernel.Link) (string, error) {
	if slices.ContainsFunc(links, func(l kernel.Link) bool { return l.Name == a.inputs.link }) {
		return a.inputs.link, nil
	}
	if to := a.External.CanReach; to.IsValid() {
		_, name, err := a.Kernel.Lookup(to)
		if err == nil && name == "" {
			err = errors.New("the kernel names no interface")
		}
		return name, err
	}
	name, err := a.Kernel.DefaultDev(inet.IPv4)
	into := func(l kernel.Link) bool { return l.Name == name && l.Tunnel() }
	switch {
	case err == nil && name == "":
		err = errors.New("this host has none")
	case slices.ContainsFunc(links, into):
		err = fmt.Errorf("it leads into the network, by %s: see flanneld check", name)
	}
	return name, err
}

// stay keeps to the address in use while the interface has it: an address that
// comes in addition, such as a virtual one, does not move this host. Nor does
// one that is left alone for a moment, while a lease of DHCP's is renewed.
func (a *Agent) stay(h backend.Host, choice extif.Choice) (backend.Host, error) {
	moves := h.Link.Name != a.inputs.link || h.Local != a.inputs.local
	switch {
	case !moves:
	case h.Link.Name == a.inputs.link && h.Link.Has(a.inputs.local):
		if h.PublicIP == h.Local {
			h.PublicIP = a.inputs.local
		}
		h.Local = a.inputs.local
	case h.Link.Name == a.inputs.link && fallbackAddress(h.Link, h.Local) && a.lost.waits(time.Now()):
		return h, fmt.Errorf("%s has lost the address %v and has only %v left", h.Link.Name, a.inputs.local, h.Local)
	case choice.Reason != a.chosen: // once, also where it is down at first and so never in use
		a.chosen = choice.Reason
		klog.InfoS("Using external interface", "interface", h.Link.Name, "address", h.Local,
			"publicIP", h.PublicIP, "mtu", h.Link.MTU, "reason", choice.Reason)
	}
	a.lost = addressLoss{}
	return h, nil
}

// fallbackAddress tells addresses that a host does not go by if it has another.
func fallbackAddress(l kernel.Link, ip netip.Addr) bool {
	return slices.ContainsFunc(
		l.Addrs,
		func(a kernel.Addr) bool { return a.Addr() == ip && (a.LinkLocal || a.Bits() == 32) },
	)
}

// addressLoss is since when the address in use is missing.
type addressLoss struct{ since time.Time }

// addressWait is how long a missing address is waited for.
const addressWait = 10 * time.Second

// waits reports whether it is worth waiting still.
func (l *addressLoss) waits(now time.Time) bool {
	if l.since.IsZero() {
		l.since = now
	}
	return now.Sub(l.since) < addressWait
}

// configure makes the next setup where the config or the host has changed. A
// config that is absent or wrong changes nothing.
func (a *Agent) configure(view subnet.View, h backend.Host) {
	config, absence := subnet.Entry{Value: view.Config, TooLong: view.ConfigTooLong}, subnet.NoConfig{}
	if config == (subnet.Entry{}) {
		absence = view.NoConfig
	}
	now := inputs{
		config, absence, h.Link.Name, h.Link.Index, h.Link.MTU, h.Local, h.PublicIP,
		strings.Join(slices.Sorted(maps.Keys(view.Living)), " "),
	}
	if now == a.inputs && !a.taken {
		return
	}
	a.inputs, a.taken = now, false
	a.noteIgnoredFields(config)
	if config == (subnet.Entry{}) {
		a.setConfigCondition(condition.ConfigMissing, absence.String()+a.meanwhile())
		return
	}
	m, err := a.makeSetup(config, h, view.Own.Subnet)
	var field *subnet.FieldError
	switch {
	case errors.As(err, &field):
		a.setConfigCondition(
			condition.ConfigInvalid,
			fmt.Sprintf("config key is wrong: %v; put it right, and flanneld goes on%s", err, a.meanwhile()),
		)
	case err != nil:
		_, a.taken = err.(*taken)
		a.setConfigCondition(condition.ConfigInvalid, err.Error()+a.meanwhile())
	default:
		a.setConfigCondition("", "")
		a.next, m.since = m, time.Now()
		a.worksIn(m.config.Network)
		klog.InfoS("Following the config key", "network", m.config.Network, "subnetLen", m.config.SubnetLen,
			"subnetMin", m.config.SubnetMin, "subnetMax", m.config.SubnetMax, "backend", m.config.BackendType)
	}
}

// worksIn notes a network as one of ours.
func (a *Agent) worksIn(network netip.Prefix) {
	if network.IsValid() && !slices.Contains(a.networks, network) {
		a.networks = append(a.networks, network)
	}
}

func (a *Agent) meanwhile() string {
	if a.next == nil {
		return ""
	}
	return "; until then the former config stays in force"
}

// taken is the error that another daemon of this host has what a config asks for.
type taken struct{ error }

// takenAgain is when that is tried again.
const takenAgain = 2 * time.Second

// makeSetup makes the setup of a config for a host that holds a subnet; invalid: it
// holds none.
func (a *Agent) makeSetup(config subnet.Entry, h backend.Host, own netip.Prefix) (*setup, error) {
	text, err := config.Text()
	if err != nil {
		return nil, err
	}
	c, err := subnet.ParseConfig(text)
	if err != nil {
		return nil, err
	}
	make, known := a.Backends[c.BackendType]
	if !known {
		supported := strings.Join(slices.Sorted(maps.Keys(a.Backends)), ", ")
		reason := "is not supported: the supported types are " + supported
		if c.BackendType == "" {
			reason = "is missing: set it to one of " + supported
		}
		return nil, &subnet.FieldError{Field: "Backend.Type", Value: c.BackendType, Reason: reason}
	}
	m := &setup{config: c, host: h}
	if a.current != nil && own.IsValid() && !c.Holds(a.current.config, own) {
		m.asked, m.config = c, c.At(a.current.config)
	}
	if m.backend, err = make(m.config, h); err != nil {
		return nil, err
	}
	if a.Exclusive != nil {
		// The names of devices are the same whatever the subnet.
		some := subnet.Lease{Subnet: netip.PrefixFrom(m.config.SubnetMin, m.config.SubnetLen)}
		if err := a.Exclusive.Hold(m.config.Network, names(m.devices(some))); err != nil {
			return nil, &taken{err}
		}
	}
	return m, nil
}
