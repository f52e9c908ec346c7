package rules

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
)

// Outcome is what a pass did to one chain or table.
type Outcome struct {
	Subject string // "iptables nat POSTROUTING", "nftables ip6"
	Drift   string // how it differed from what is wanted, and was repaired; "" if it did not
	Err     error
}

// Result is the result of a pass over all rules of one program.
type Result struct {
	Outcomes []Outcome
	Rules    []string // the wanted rules, for operators to read
	// Marks means that rules of this program match packets from peers by
	// PeerMark, or set it. Otherwise the rules do not depend on which peers there
	// are.
	Marks bool
}

// Failed reports whether anything failed.
func (r Result) Failed() bool {
	return slices.ContainsFunc(r.Outcomes, func(o Outcome) bool { return o.Err != nil })
}

// Wrote reports whether anything differed, and was repaired.
func (r Result) Wrote() bool {
	return slices.ContainsFunc(r.Outcomes, func(o Outcome) bool { return o.Err == nil && o.Drift != "" })
}

// Behind is the result of a pass that followed another one, which had written something
// already.
func (r Result) Behind(first Result) Result {
	for i, o := range r.Outcomes {
		for _, f := range first.Outcomes {
			if o.Subject == f.Subject && o.Drift == "" && o.Err == nil {
				r.Outcomes[i].Drift = f.Drift
			}
		}
	}
	return r
}

// NoAnswer is the error of a program that did not end in time. Its text stays the
// same as long as that lasts, so that it is logged once.
type NoAnswer struct{ Program string }

// Subject is what it is of, whatever it was run for: "iptables" or "ip6tables".
func (n NoAnswer) Subject() string {
	name, _, _ := strings.Cut(filepath.Base(n.Program), "-")
	return name
}

func (n NoAnswer) Error() string {
	return n.Program + " has not answered for more than 3 seconds: find out what it waits for by running it by hand"
}

// Lacks is the error where this host lacks something that rules are made of.
type Lacks struct {
	Text string // what it lacks, and what to do
	Fix  string // the command that does it; "": none that is sure to
	Err  error  // what was met
}

func (l Lacks) Error() string { return l.Text + ": " + l.Err.Error() }

func (l Lacks) Unwrap() error { return l.Err }

// ErrNotThere says that rules which were read after a write do not show it. In front
// of it belongs what wrote them.
var ErrNotThere = errors.New("reported success, but the rules are not there")
