package agent

import (
	"cmp"
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
	config   subnet.Entry // but for its place in the store
	noConfig subnet.NoConfig
	hosts    [2]hostInputs // by family; zero: it is not used
	living   string        // keys of leases that seemed to be this host's
	key      string        // public, where the config asks for one; empty: none, or it cannot be read
}

// hostInputs is what a setup is made from of a host, as a family sees it.
type hostInputs struct {
	link            string
	index, mtu      int
	local, publicIP netip.Addr
}

func inputsOf(h backend.Host) hostInputs {
	return hostInputs{h.Link.Name, h.Link.Index, h.Link.MTU, h.Local, h.PublicIP}
}

// place is where packets of a family leave this host.
type place struct {
	onLink onLinkCache
	lost   addressLoss // of the address in use
	chosen string      // the external interface, and why, as logged
	absent time.Time   // since when there is none; zero: there is one
}

func (a *Agent) place(f inet.Family) *place { return &a.places[f.Index()] }

// inUse is what the present setups are made from.
func (a *Agent) inUse(f inet.Family) hostInputs { return a.inputs.hosts[f.Index()] }

// lookAround reads the host's interfaces and chooses the external one of each family that
// the config asks for. A family without one is left out beside another that has one.
func (a *Agent) lookAround(view subnet.View, now time.Time) (hosts []backend.Host, links []kernel.Link, err error) {
	wanted, sure := a.wantedFamilies(view)
	a.wanted = wanted
	a.Kernel.Look(wanted...)
	for _, f := range inet.Families() {
		if !slices.Contains(wanted, f) { // its routing changes unheard
			a.place(f).onLink = onLinkCache{}
		}
	}
	if links, err = a.Kernel.Links(); err != nil {
		return nil, nil, fmt.Errorf("list interfaces: %w", err)
	}
	var missing []error
	var absent []condition.Condition
	wait := false
	for _, f := range wanted {
		if !sure && len(hosts) > 0 {
			break
		}
		host, err := a.findBeside(f, wanted, links, hosts)
		p := a.place(f)
		switch {
		case err == nil:
			p.absent = time.Time{}
			hosts = append(hosts, host)
			continue
		case p.absent.IsZero() && len(wanted) > 1:
			p.absent = now
		}
		missing = append(missing, err)
		if !sure {
			continue
		}
		absent = append(absent, condition.Condition{Subject: f.String(), Message: fmt.Sprintf(
			"this host has no external interface for %v, and works without that", f), Cause: err.Error()})
		// An address may take some time to come.
		wait = wait || a.current == nil && now.Sub(p.absent) < a.familyWait(f)
	}
	if len(hosts) == 0 {
		a.Changes.Filter(nil, nil)
	}
	if len(hosts) == 0 || wait {
		return nil, links, missing[0]
	}
	if len(missing) > 0 && a.current != nil { // what works stays as it was
		for _, h := range a.current.halves {
			if !slices.ContainsFunc(hosts, func(found backend.Host) bool { return inet.Of(found.Local) == h.family }) {
				hosts = append(hosts, h.host)
			}
		}
		slices.SortFunc(hosts, func(a, b backend.Host) int { return cmp.Compare(inet.Of(a.Local), inet.Of(b.Local)) })
	}
	a.Conditions.Replace(condition.FamilyMissing, absent)
	a.self = selfOf(hosts, a.Former.Subnets())
	former := formerLease(view, a.self, subnet.Hint)
	for i := range hosts {
		lease, _ := former.For(inet.Of(hosts[i].Local))
		hosts[i].Lease, hosts[i].Others = lease.Attrs, others(view, a.self)
	}
	return hosts, links, nil
}

// addressDue is how long an address of another family is waited for still.
func (a *Agent) addressDue(now time.Time) time.Duration {
	due := resync
	for _, f := range inet.Families() {
		if left := a.familyWait(f) - now.Sub(a.place(f).absent); left > 0 { // never, where there is one
			due = min(due, left)
		}
	}
	return due
}

// wantedFamilies are those that the config asks for, and those at work. They are not sure
// before there is a config: then whichever the host has will do.
func (a *Agent) wantedFamilies(view subnet.View) (all []inet.Family, sure bool) {
	c, err := a.parsed.parse(view.Config)
	for _, f := range inet.Families() {
		wanted := slices.Contains(c.Families(), f)
		if wanted || a.inUse(f).link != "" && err != nil || a.worksBy(f) {
			all = append(all, f)
		}
	}
	if len(all) == 0 {
		return inet.Families(), false
	}
	return all, true
}

// parsedConfig is the config key as it was parsed last: each pass asks for it, and it seldom changes.
type parsedConfig struct {
	known  bool
	text   string
	config subnet.Config
	err    error
}

func (p *parsedConfig) parse(text string) (subnet.Config, error) {
	if !p.known || p.text != text {
		config, err := subnet.ParseConfig(text)
		*p = parsedConfig{true, text, config, err}
	}
	return p.config, p.err
}

// worksBy tells whether the setup at work has a half of a family.
func (a *Agent) worksBy(f inet.Family) bool {
	if a.current == nil {
		return false
	}
	_, works := a.current.of(f)
	return works
}

// findBeside is find, once more beside the interface of the other family where a flag names what
// only that has.
func (a *Agent) findBeside(
	f inet.Family, wanted []inet.Family, links []kernel.Link, found []backend.Host,
) (host backend.Host, err error) {
	if host, err = a.find(f, links, linksOf(found)); err == nil || len(found) > 0 {
		return host, err
	}
	for _, other := range wanted {
		if other == f {
			continue
		}
		if beside, e := a.find(other, links, nil); e == nil {
			return a.find(f, links, linksOf([]backend.Host{beside}))
		}
	}
	return host, err
}

// find chooses the external interface of a family, if it can be the one that another family has.
func (a *Agent) find(f inet.Family, links []kernel.Link, others []string) (backend.Host, error) {
	options := a.External
	options.InUse = a.inUse(f).local
	if len(others) > 0 {
		options.Prefer = others[0]
	}
	choice, err := extif.Choose(f, options, links, func() (string, error) { return a.routeDev(f, links) })
	if err != nil {
		return backend.Host{}, err
	}
	return a.stay(backend.Host{Link: choice.Link, Local: choice.Addr, PublicIP: choice.PublicIP, Links: links}, choice)
}

func linksOf(hosts []backend.Host) (names []string) {
	for _, h := range hosts {
		if !slices.Contains(names, h.Link.Name) {
			names = append(names, h.Link.Name)
		}
	}
	return names
}

// routeDev keeps to the interface chosen at first, for as long as it exists:
// a VPN that takes the route over does not move this host.
func (a *Agent) routeDev(f inet.Family, links []kernel.Link) (string, error) {
	used := a.inUse(f).link
	if slices.ContainsFunc(links, func(l kernel.Link) bool { return l.Name == used }) {
		return used, nil
	}
	if to := a.External.CanReach; to.IsValid() && inet.Of(to) == f {
		_, name, err := a.Kernel.Lookup(to)
		if err == nil && name == "" {
			err = errors.New("the kernel names no interface")
		}
		return name, err
	}
	name, err := a.Kernel.DefaultDev(f)
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
	f := inet.Of(h.Local)
	used, p := a.inUse(f), a.place(f)
	moves := h.Link.Name != used.link || h.Local != used.local
	switch {
	case !moves:
	case h.Link.Name == used.link && slices.Contains(addrs([]kernel.Link{h.Link}), used.local):
		if h.PublicIP == h.Local {
			h.PublicIP = used.local
		}
		h.Local = used.local
	case h.Link.Name == used.link && fallbackAddress(h.Link, h.Local) && p.lost.waits(time.Now()):
		return h, fmt.Errorf("%s has lost the address %v and has only %v left", h.Link.Name, used.local, h.Local)
	case choice.Reason != p.chosen: // once, also where it is down at first and so never in use
		p.chosen = choice.Reason
		klog.InfoS("Using external interface", "interface", h.Link.Name, "address", h.Local,
			"publicIP", h.PublicIP, "mtu", h.Link.MTU, "reason", choice.Reason)
		a.Note(fmt.Sprintf("external interface %s, %v", h.Link.Name, h.Local))
	}
	p.lost = addressLoss{}
	return h, nil
}

// fallbackAddress tells addresses that a host does not go by if it has another.
func fallbackAddress(l kernel.Link, ip netip.Addr) bool {
	return slices.ContainsFunc(
		l.Addrs,
		func(a kernel.Addr) bool { return a.Addr() == ip && (a.LinkLocal || a.IsSingleIP()) },
	)
}

// addressLoss is since when the address in use is missing.
type addressLoss struct{ since time.Time }

// addressWait is how long a missing address is waited for.
const addressWait = 10 * time.Second

// familyWait is how long the address of a family beside another one is waited for at the
// start: longer where containers have had that family, as dockerd goes by the subnet file.
func (a *Agent) familyWait(f inet.Family) time.Duration {
	if a.Former.Subnets().Of(f).IsValid() {
		return 6 * addressWait
	}
	return addressWait
}

// waits reports whether it is worth waiting still.
func (l *addressLoss) waits(now time.Time) bool {
	if l.since.IsZero() {
		l.since = now
	}
	return now.Sub(l.since) < addressWait
}

// configure makes the next setup where the config or the host has changed. A
// config that is absent or wrong changes nothing.
func (a *Agent) configure(view subnet.View, hosts []backend.Host) {
	config, absence := subnet.Entry{Value: view.Config, TooLong: view.ConfigTooLong}, subnet.NoConfig{}
	if config == (subnet.Entry{}) {
		absence = view.NoConfig
	}
	now := inputs{
		config: config, noConfig: absence, key: a.publicKey(config),
		living: strings.Join(slices.Sorted(maps.Keys(view.Living)), " "),
	}
	for _, h := range hosts {
		now.hosts[inet.Of(h.Local).Index()] = inputsOf(h)
	}
	if now == a.inputs && !a.again {
		return
	}
	a.inputs, a.again = now, false
	a.noteIgnoredFields(config)
	if config == (subnet.Entry{}) {
		a.setConfigCondition(condition.ConfigMissing, absence.String()+a.meanwhile())
		return
	}
	m, err := a.makeSetup(config, hosts, view.Own.Subnets())
	var field *subnet.FieldError
	switch {
	case errors.As(err, &field):
		a.setConfigCondition(
			condition.ConfigInvalid,
			fmt.Sprintf("config key is wrong: %v; put it right, and flanneld goes on%s", err, a.meanwhile()),
		)
	case err != nil:
		_, a.again = err.(*passing)
		a.setConfigCondition(condition.CodeOf(err, condition.ConfigInvalid), err.Error()+a.meanwhile())
	default:
		a.setConfigCondition("", "")
		former := a.next
		a.noteSetup(former, m)
		a.next, m.since = m, time.Now()
		if a.current != nil && former != a.current && former == a.claimedFor { // peers may send by it already
			a.leave(former, false, view.Own, m.since)
		}
		a.worksIn(m.config.Networks()...)
		lease := formerLease(view, a.self, subnet.Proof) // a family of which is not used any more may have left something
		a.worksIn(lease.Subnets().All()...)
		for _, h := range m.halves {
			klog.InfoS("Following the config key", "network", h.config.Network, "subnetLen", h.config.SubnetLen,
				"subnetMin", h.config.SubnetMin, "subnetMax", h.config.SubnetMax, "backend", m.config.BackendType)
		}
	}
}

// worksIn notes networks as ours.
func (a *Agent) worksIn(networks ...netip.Prefix) {
	for _, n := range networks {
		if !slices.Contains(a.networks, n) {
			a.networks = append(a.networks, n)
		}
	}
}

func (a *Agent) meanwhile() string {
	if a.next == nil {
		return ""
	}
	return "; until then the former config stays in force"
}

// passing is an error that may be over without another config: another daemon of this host has what that
// asks for, or a file cannot be read.
type passing struct{ error }

// Unwrap lets the condition's code be found.
func (p *passing) Unwrap() error { return p.error }

// makeAgain is when a setup that could not be made is tried again.
const makeAgain = 2 * time.Second

// makeSetup makes the setup of a config for a host that holds subnets; none: it
// holds none. A family of which the host has no external interface is left out.
func (a *Agent) makeSetup(config subnet.Entry, hosts []backend.Host, own subnet.Subnets) (*setup, error) {
	text, err := config.Text()
	if err != nil {
		return nil, err
	}
	c, err := a.parsed.parse(text)
	if err != nil {
		return nil, err
	}
	make, err := backend.Find(a.Backends, c)
	if err != nil {
		return nil, err
	}
	var here []inet.Family
	for _, h := range hosts {
		here = append(here, inet.Of(h.Local))
	}
	m := &setup{config: c.Only(here)}
	if a.current != nil && own != (subnet.Subnets{}) && !m.config.Holds(a.current.config, own) {
		m.asked, m.config = m.config, m.config.At(a.current.config)
	}
	for _, h := range hosts {
		f := inet.Of(h.Local)
		of, used := m.config.For(f)
		if !used {
			continue
		}
		h.PrivateKey = a.PrivateKey
		b, err := make(of, h)
		var field *subnet.FieldError
		switch {
		case errors.As(err, &field):
			return nil, err
		case err != nil:
			return nil, &passing{err}
		}
		m.halves = append(m.halves, half{f, of, h, b})
	}
	if len(m.halves) == 0 {
		return nil, errors.New("this host has no external interface of a family that the config key enables: " +
			"name one with --iface, or enable another family")
	}
	for _, h := range m.halves {
		if a.Exclusive == nil {
			break
		}
		// The names of devices are the same whatever the subnet.
		some := subnet.Lease{Subnet: netip.PrefixFrom(h.config.SubnetMin, h.config.SubnetLen)}
		if err := a.Exclusive.Hold(h.config.Network, names(h.desired(some, nil, backend.Around{}).Devices)); err != nil {
			return nil, &passing{err}
		}
	}
	return m, nil
}
