package check

import (
	"fmt"
	"slices"

	"flanneld/pkg/status"
)

// Level says how bad a finding is.
type Level string

// The levels. A Fault is a reason why packets do not arrive, or will not soon.
const (
	OK      Level = "ok"
	Note    Level = "note"    // worth knowing, and no fault
	Skipped Level = "skipped" // makes no sense before another one is mended
	Unknown Level = "unknown" // could not be looked at
	Fault   Level = "FAULT"
)

// Finding is what a step has found.
type Finding struct {
	Step  string   `json:"step"`
	Level Level    `json:"level"`
	Text  string   `json:"text"`
	Cure  []string `json:"cure,omitempty"` // commands, mostly
}

// step looks at one thing. What it returns needs no Step; nothing means that all
// is well, and then good says what.
type step struct {
	name string
	good func(Facts) string
	find func(Facts) []Finding
}

// steps are those that look at this host, in the order of a packet that leaves
// a container; on the way out it needs what comes first.
func steps() []step {
	return []step{
		{"daemon", goodDaemon, findDaemon},
		{"interface", goodInterface, findInterface},
		{"clock", says("agrees with etcd's"), findClock},
		{"certificates", says("valid"), findCertificates},
		{"etcd", goodEtcd, findEtcd}, // which any of these keeps out of reach
		{"config", goodConfig, findConfig},
		{"lease", goodLease, findLease},
		{"device", goodDevice, findDevice},
		{"subnet.env", says("says what the lease says"), findEnv},
		{"docker", goodDocker, findDocker},
		{"forwarding", says("on"), findForwarding},
		{"bridge", says("containers of this host may reach each other"), findBridge},
	}
}

// pathStep looks at the way to one peer and back.
type pathStep struct {
	name string
	good string
	find func(Facts, status.Peer) []Finding
}

func pathSteps() []pathStep {
	return []pathStep{
		{"route", "packets to it leave as flanneld wants", findPath},
		{"rp_filter", "packets from it are expected where they come from", findReversePath},
		{"forward", "iptables lets containers' packets pass both ways", findForward},
		{"port", "iptables does not block the tunnel's UDP port", findPort},
		{"nftables", "no table of somebody else's blocks the network", findForeign},
		{"addresses", "containers keep their own addresses", findHiding},
	}
}

func says(text string) func(Facts) string { return func(Facts) string { return text } }

func fault(cure []string, format string, args ...any) Finding {
	return Finding{Level: Fault, Text: fmt.Sprintf(format, args...), Cure: cure}
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
	f.inKernel = status.NewKernel(f.Routes, f.Entries)
	var out []Finding
	for _, s := range steps() {
		out = append(out, named(s.name, s.find(f), func() string { return s.good(f) })...)
	}
	for _, s := range pathSteps() {
		out = append(out, named(s.name, s.all(f, peers), func() string { return s.good })...)
	}
	return out
}

// faulty reports whether a step has found a fault.
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
	}
	return found
}

// all looks at every peer. What has one cure is one finding.
func (s pathStep) all(f Facts, peers []status.Peer) []Finding {
	switch {
	case f.Status == nil:
		return skipped("flanneld does not say which peers there are")
	case len(peers) == 0:
		return skipped("there is no peer")
	}
	var out []Finding
	for _, p := range peers {
		out = append(out, s.find(f, p)...)
	}
	return merge(out)
}

// merge makes one of findings that one thing mends, such as a rule that is in the
// way to many peers.
func merge(all []Finding) (out []Finding) {
	place := map[string]int{} // by what mends it
	texts := map[int]map[string]bool{}
	for _, x := range all {
		key := string(x.Level) + x.Text
		if len(x.Cure) > 0 {
			key = string(x.Level) + x.Cure[0]
		}
		i, known := place[key]
		if !known {
			i = len(out)
			place[key], texts[i] = i, map[string]bool{}
			out = append(out, x)
		}
		texts[i][x.Text] = true
	}
	for i := range out {
		if more := len(texts[i]) - 1; more > 0 {
			out[i].Text += fmt.Sprintf(" (and %d more like this)", more)
		}
	}
	return out
}
