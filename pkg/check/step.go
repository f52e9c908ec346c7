package check

import (
	"fmt"
	"slices"

	"flanneld/pkg/condition"
	"flanneld/pkg/inet"
	"flanneld/pkg/printable"
	"flanneld/pkg/status"
)

// Level says how bad a finding is.
type Level string

// The levels. A Fault is a reason why packets do not arrive, or will not soon.
const (
	OK      Level = "ok"
	Note    Level = "note"    // worth knowing, and no fault
	Skipped Level = "skipped" // makes no sense before another one is fixed
	Unknown Level = "unknown" // could not be looked at
	Fault   Level = "FAULT"
)

// Finding is what a step has found.
type Finding struct {
	Step  string   `json:"step"`
	Level Level    `json:"level"`
	Text  string   `json:"text"`
	Fix   []string `json:"fix,omitempty"` // commands, mostly

	family inet.Family // that it is about; 0: all that are in use
	reason Reason      // as which peers' findings are counted together; "": as its step's
}

// step looks at one thing. What it returns needs no Step; nothing means that all
// is well, and then good says what.
type step struct {
	name string
	// after are steps whose fault explains what this one finds: then that is
	// skipped.
	after []prerequisite
	// covers are the daemon's conditions that a fault of this step tells of, or
	// is the reason for.
	covers []condition.Code
	blocks bool             // its fault keeps packets from a peer
	only   func(Facts) bool // where it is of use; nil: everywhere
	// each are the families that it looks at, one after the other; nil: it looks once at
	// all that there is.
	each func(Facts) []inet.Family
	good func(Facts) string
	find func(Facts) []Finding
}

// prerequisite is a step to be right first.
type prerequisite struct{ step, text string }

// steps are those that look at this host, in the order of a packet that leaves
// a container; on the way out it needs what comes first.
func steps() []step {
	etcd := []condition.Code{
		condition.EtcdUnreadable, condition.EtcdNotCurrent, condition.EtcdUnwritable, condition.ReloadFailed,
	}
	kernel := kernelCodes()
	return []step{
		{name: "daemon", good: goodDaemon, find: findDaemon},
		{name: "interface", good: goodInterface, find: findInterface, each: Facts.askedFor, blocks: true,
			covers: slices.Concat(etcd, kernel, []condition.Code{
				condition.InterfaceMissing, condition.InterfaceDown, condition.FamilyMissing,
			})},
		{name: foreignStep, find: findOnDevice, blocks: true,
			good:   says("flanneld's device has nothing that others have put there"),
			covers: slices.Concat(etcd, []condition.Code{condition.UnderlayDiverted, condition.DeviceForeign})},
		{name: "clock", good: says("agrees with etcd's"), find: findClock},
		{name: "certificates", good: says("valid"), find: findCertificates, covers: etcd},
		{name: "etcd", good: goodEtcd, find: findEtcd, covers: etcd,
			after: []prerequisite{{"interface", "the interface is right"}, {foreignStep, "what is foreign is gone"},
				{"certificates", "the certificates are valid"}}},
		{
			name:   "config",
			good:   goodConfig,
			find:   findConfig,
			covers: []condition.Code{condition.ConfigMissing, condition.ConfigInvalid},
		},
		{name: "lease", good: goodLease, find: findLease,
			covers: []condition.Code{
				condition.NoLease,
				condition.NoFreeSubnet,
				condition.LeaseExpired,
				condition.LeaseContested,
				condition.KernelNotApplied,
			}},
		{name: keysStep, good: goodKeys, find: findKeys, only: Facts.byWireGuard, blocks: true,
			covers: []condition.Code{condition.KeyUnusable, condition.KeyDuplicated, condition.ConfigInvalid,
				condition.NoLease, condition.PeerUnreachable}},
		{name: "own routes", good: says("nothing leads this host's own subnet away"), find: findDiverted,
			covers: []condition.Code{condition.RouteConflict}},
		{name: "device", good: goodDevice, find: findDevice, each: Facts.inUse, blocks: true,
			covers: append(kernel, condition.KernelContention)},
		{
			name:   "subnet.env",
			good:   says("says what the lease says"),
			find:   findEnv,
			covers: []condition.Code{condition.SubnetFileUnwritten, condition.SubnetFileContested},
		},
		{name: "docker", good: goodDocker, find: findDocker, each: Facts.inUse,
			after: []prerequisite{{"subnet.env", "subnet.env is right"}}},
		{name: "forwarding", good: goodForwarding, find: findForwarding, each: Facts.inUse},
		{name: "bridge", good: says("containers of this host may reach each other"), find: findBridge, each: Facts.inUse},
	}
}

// kernelCodes are the conditions of what leads to peers.
func kernelCodes() []condition.Code {
	return []condition.Code{
		condition.KernelNotApplied, condition.PeerUnreachable, condition.RouteConflict, condition.RouteShadowed,
	}
}

// pathStep looks at the way to one peer and back.
type pathStep struct {
	name   string
	after  func(status.Peer) []prerequisite // as in step; nil: none
	covers []condition.Code
	blocks bool
	only   func(Facts) bool
	good   string
	find   func(Facts, status.Peer) []Finding
}

func pathSteps() []pathStep {
	return []pathStep{
		{name: "route", good: "packets to it leave as flanneld wants", find: findPath, after: tunnelNeedsDevice, blocks: true,
			covers: kernelCodes()},
		{name: "rp_filter", good: "packets from it are expected where they come from", find: findReversePath, blocks: true},
		{name: "forward", good: "iptables lets containers' packets pass both ways", find: findForward},
		{name: "port", good: "iptables does not block the tunnel's UDP port", find: findPort, blocks: true},
		{name: "nftables", good: "no table of somebody else's blocks the network", find: findForeign},
		{name: "handshake", good: "WireGuard has a session with it", find: findHandshake, after: handshakeNeeds,
			blocks: true, only: func(f Facts) bool { return f.by(status.WireGuard) }},
		{name: "addresses", good: "containers keep their own addresses", find: findHiding},
	}
}

func handshakeNeeds(status.Peer) []prerequisite {
	return []prerequisite{{"device", "the device is right"}, {keysStep, "the keys are right"}, {"port", "the port is open"},
		{"nftables", "no table blocks the tunnel"}}
}

func tunnelNeedsDevice(p status.Peer) []prerequisite {
	if p.Mode != status.Tunnel {
		return []prerequisite{{keysStep, "the keys are right"}}
	}
	return []prerequisite{{"device", "the device is right"}}
}

// declared is what a step of that name declares.
func declared(name string) (covers []condition.Code, blocks bool) {
	for _, s := range steps() {
		if s.name == name {
			return s.covers, s.blocks
		}
	}
	for _, s := range pathSteps() {
		if s.name == name {
			return s.covers, s.blocks
		}
	}
	return nil, false
}

func says(text string) func(Facts) string { return func(Facts) string { return text } }

func fault(fix []string, format string, args ...any) Finding {
	return Finding{Level: Fault, Text: fmt.Sprintf(format, args...), Fix: fix}
}

func note(format string, args ...any) Finding {
	return Finding{Level: Note, Text: fmt.Sprintf(format, args...)}
}

func skipped(format string, args ...any) []Finding {
	return []Finding{{Level: Skipped, Text: fmt.Sprintf(format, args...)}}
}

func unknown(format string, args ...any) []Finding {
	return []Finding{{Level: Unknown, Text: fmt.Sprintf(format, args...)}}
}

// Run walks all steps.
func Run(f Facts, peers []status.Peer) []Finding {
	views := f.views(f.askedFor())
	f.before = f.walk(views)
	for _, s := range pathSteps() {
		if s.only != nil && !s.only(f) {
			continue
		}
		f.before = append(f.before, named(s.name, s.all(f, views, peers), func() string { return s.good })...)
	}
	return f.before
}

// walk walks the steps that look at this host.
func (f Facts) walk(views map[inet.Family]Facts) []Finding {
	for _, s := range steps() {
		if s.only != nil && !s.only(f) {
			continue
		}
		f.before = append(f.before, s.look(f, views)...)
	}
	return f.before
}

// views are what of gives for each family.
func (f Facts) views(families []inet.Family) map[inet.Family]Facts {
	all := map[inet.Family]Facts{}
	for _, family := range families {
		all[family] = f.of(family)
	}
	return all
}

// look carries a step out.
func (s step) look(f Facts, views map[inet.Family]Facts) []Finding {
	if s.each == nil {
		return s.once(f)
	}
	families := s.each(f)
	found := make([][]Finding, len(families))
	for i, family := range families {
		v := views[family]
		v.before = f.before
		found[i] = s.once(v)
	}
	return joined(families, found)
}

func (s step) once(f Facts) []Finding {
	found := s.find(f)
	if first, there := f.firstFaulty(s.after); there && faulty(found) {
		found = skipped("not before %s: %s", first.text, found[0].Text)
	}
	return named(s.name, found, func() string { return s.good(f) })
}

// firstFaulty is the first of these steps that has found a fault.
func (f Facts) firstFaulty(after []prerequisite) (prerequisite, bool) {
	i := slices.IndexFunc(after, func(p prerequisite) bool { return f.faulty(p.step) })
	if i < 0 {
		return prerequisite{}, false
	}
	return after[i], true
}

// faulty reports whether an earlier step has found a fault.
func (f Facts) faulty(step string) bool {
	return slices.ContainsFunc(f.before, func(x Finding) bool {
		return x.Step == step && x.Level == Fault && f.concerns(x)
	})
}

// concerns reports whether a finding is about what f is about.
func (f Facts) concerns(x Finding) bool {
	return x.family == 0 || f.family == 0 || x.family == f.family
}

// fine reports whether an earlier step has found that all is well.
func (f Facts) fine(step string) bool {
	return slices.ContainsFunc(f.before, func(x Finding) bool { return x.Step == step && x.Level == OK })
}

func faulty(found []Finding) bool {
	return slices.ContainsFunc(found, func(x Finding) bool { return x.Level == Fault })
}

// named completes what a step has found.
func named(name string, found []Finding, good func() string) []Finding {
	if len(found) == 0 {
		found = []Finding{{Level: OK, Text: good()}}
	}
	for i := range found {
		found[i].Step = name
		for j, line := range found[i].Fix { // of which what is pasted must be one line
			found[i].Fix[j] = printable.Line(line)
		}
	}
	return found
}

// all looks at every peer. What has one fix is one finding.
func (s pathStep) all(f Facts, views map[inet.Family]Facts, peers []status.Peer) []Finding {
	switch {
	case f.Status == nil:
		return skipped("flanneld does not say which peers there are")
	case len(peers) == 0:
		return skipped("there is no peer")
	}
	if peers = carried(peers); len(peers) == 0 {
		return skipped(external)
	}
	var out []Finding
	several := len(f.inUse()) > 1
	for _, p := range peers {
		v, known := views[inet.Of(p.Subnet.Addr())]
		if !known {
			continue
		}
		v.before = f.before
		out = append(out, s.one(v, p, several)...)
	}
	return merge(out)
}

// one looks at one peer. v is what its family sees, and several that there is another one.
func (s pathStep) one(v Facts, p status.Peer, several bool) []Finding {
	found := s.find(v, p)
	if s.after != nil {
		if first, there := v.firstFaulty(s.after(p)); there && faulty(found) {
			found = skipped("not before %s", first.text)
		}
	}
	if several {
		for i := range found {
			found[i].family = v.family
		}
	}
	return found
}

// external is why there is nothing to look at with the backend alloc.
const external = "packets travel as the operator's own routing has them: flanneld carries none with the backend alloc"

// carried are the peers whose packets are flanneld's affair.
func carried(peers []status.Peer) (out []status.Peer) {
	for _, p := range peers {
		if p.Mode != status.External {
			out = append(out, p)
		}
	}
	return out
}

// merge makes one of findings that one thing fixes, such as a rule that is in the
// way to many peers.
func merge(all []Finding) (out []Finding) {
	place := map[string]int{} // by what fixes it
	texts := map[int]map[string]bool{}
	for _, x := range all {
		key := string(x.Level) + x.Text
		if len(x.Fix) > 0 {
			key = string(x.Level) + x.Fix[0]
		}
		i, known := place[key]
		if !known {
			i = len(out)
			place[key], texts[i] = i, map[string]bool{}
			out = append(out, x)
		}
		if texts[i][x.Text] = true; out[i].family != x.family {
			out[i].family = 0
		}
	}
	for i := range out {
		if more := len(texts[i]) - 1; more > 0 {
			out[i].Text += fmt.Sprintf(" (and %d more like this)", more)
		}
	}
	return out
}
