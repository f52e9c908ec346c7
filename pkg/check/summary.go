package check

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"flanneld/pkg/status"
	"flanneld/pkg/subnet"
)

// Report tells of all peers by what is wrong. Its JSON is for scripts: names stay, and none is
// taken away.
type Report struct {
	Time        time.Time `json:"time"`
	Took        float64   `json:"took_seconds"`
	Interrupted bool      `json:"interrupted"` // by the user: not all was looked at
	Summary     Summary   `json:"summary"`
	Host        []Finding `json:"host"`   // this host's
	Causes      []Cause   `json:"causes"` // why peers are not reached, faults first, and then the most peers
}

// Summary counts peers. One is a host, whose families count together as the worst of them.
type Summary struct {
	Peers      int `json:"peers"`
	Reached    int `json:"reached"`
	NotReached int `json:"not_reached"`
	NotKnown   int `json:"not_known"`  // whether they are: see the causes of the level unknown
	NotProbed  int `json:"not_probed"` // as something on this host comes first, or for want of time
	External   int `json:"external"`   // reached by what the operator has: backend alloc
	Causes     int `json:"causes"`     // faults
}

// Cause is what keeps some peers from being reached. One thing fixes it, or one on each of them.
type Cause struct {
	Reason Reason   `json:"reason"` // or the step that has found it
	Step   string   `json:"step"`
	Level  Level    `json:"level"`
	Text   string   `json:"text"`          // of the first of the peers
	Fix    []string `json:"fix,omitempty"` // likewise
	Peers  []Victim `json:"peers"`
}

// Victim is a peer, and what tells since when it is so. Zero: it is not known.
type Victim struct {
	Subnet   netip.Prefix `json:"subnet"`
	PublicIP netip.Addr   `json:"public_ip,omitzero"`
	Text     string       `json:"text"`

	Since     time.Time `json:"since,omitzero"`          // the daemon's own probes find it so
	Handshake time.Time `json:"last_handshake,omitzero"` // WireGuard's
	Renewed   time.Time `json:"lease_renewed,omitzero"`  // about: its host lived then
	Way       time.Time `json:"way_since,omitzero"`      // this has been the way to it
}

// newReport groups what is known of all peers; of those that flanneld carries packets to there
// are targets.
func newReport(f Facts, peers []status.Peer, all []*target) *Report {
	r := &Report{Time: f.Now, Host: f.before, Causes: causes(f, all)}
	r.Summary.count(peers, all)
	var found []Finding
	for _, c := range r.Causes {
		if found = append(found, c.finding()); c.Level == Fault {
			r.Summary.Causes++
		}
	}
	r.Host = append(r.Host, Rest(f, append(slices.Clone(f.before), found...))...)
	return r
}

// finding is the cause as other findings are.
func (c Cause) finding() Finding {
	return Finding{Step: c.Step, Level: c.Level, Text: c.words(), Fix: c.Fix, reason: c.Reason}
}

// words are the first one's, and how many there are.
func (c Cause) words() string {
	switch more := len(c.Peers) - 1; more {
	case 0:
		return c.Text
	case 1:
		return c.Text + " (and 1 more like this)"
	default:
		return c.Text + " (and " + thousands(more) + " more like this)"
	}
}

// Findings are what there is to say, as a check of few peers says it.
func (r *Report) Findings() []Finding {
	all := slices.Clone(r.Host)
	for _, c := range r.Causes {
		all = append(all, c.finding())
	}
	if s := r.Summary; r.Interrupted && s.NotProbed > 0 {
		all = append(all, Finding{Step: "probe", Level: Unknown, Text: "interrupted: " + plural(s.NotProbed, "peer") +
			" not looked at"})
	}
	return all
}

// state is what is known of a peer, from good to bad.
type state int

const (
	others state = iota // way
	reached
	notProbed
	notKnown
	notReached
)

func (t *target) state() state {
	all := slices.Concat(t.found, t.answer)
	switch {
	case faulty(all):
		return notReached
	case slices.ContainsFunc(all, func(x Finding) bool { return x.Level == Unknown }):
		return notKnown
	case !t.probed:
		return notProbed
	}
	return reached
}

// count counts hosts.
func (s *Summary) count(peers []status.Peer, all []*target) {
	hosts := map[string]state{}
	note := func(p status.Peer, is state) {
		host := cmp.Or(p.Key, p.Subnet.String())
		hosts[host] = max(hosts[host], is)
	}
	for _, p := range peers {
		note(p, others)
	}
	for _, t := range all {
		note(t.Peer, t.state())
	}
	s.Peers = len(hosts)
	for _, is := range hosts {
		*map[state]*int{others: &s.External, reached: &s.Reached, notProbed: &s.NotProbed,
			notKnown: &s.NotKnown, notReached: &s.NotReached}[is]++
	}
}

// likeness is a text without what tells one peer from another.
func likeness(f Facts, p status.Peer) func(string) string {
	name := func(word string) string {
		at, err := netip.ParsePrefix(word)
		if a, single := netip.ParseAddr(word); single == nil {
			at, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		switch {
		case err != nil:
			return ""
		case f.Status.Lease != nil && at == f.Status.Lease.Subnet:
			return "<own>"
		case at == p.Subnet:
			return "<subnet>"
		case p.Subnet.Contains(at.Addr()) && at.IsSingleIP():
			return "<inside>"
		case p.Subnet.Contains(at.Addr()):
			return fmt.Sprintf("<inside>/%d", at.Bits())
		case at.Addr() == p.PublicIP && at.IsSingleIP():
			return "<host>"
		}
		return ""
	}
	const ofAddress = "0123456789abcdefABCDEF.:/"
	return func(text string) string {
		var out strings.Builder
		for text != "" {
			n := len(text) - len(strings.TrimLeft(text, ofAddress))
			if n == 0 {
				if n = strings.IndexAny(text, ofAddress); n < 0 {
					n = len(text)
				}
				out.WriteString(text[:n])
				text = text[n:]
				continue
			}
			word := text[:n]
			named := name(word)
			for named == "" && len(word) > 1 && strings.HasSuffix(word, ":") { // of the sentence
				word = word[:len(word)-1]
				named = name(word)
			}
			out.WriteString(cmp.Or(named, word))
			text = text[len(word):]
		}
		return out.String()
	}
}

// causes puts together what one thing fixes, or the same on each peer.
func causes(f Facts, all []*target) []Cause {
	out := []Cause{} // scripts go through it, also where there is none
	place := map[string]int{}
	for _, t := range all {
		found := slices.Concat(t.found, t.answer)
		if len(found) == 0 {
			continue
		}
		like, counted := likeness(t.view, t.Peer), map[int]bool{}
		for _, x := range found {
			what := x.Fix
			if len(what) == 0 {
				what = []string{x.Text}
			}
			reason := cmp.Or(x.reason, Reason(x.Step))
			key := like(strings.Join(append([]string{string(x.Level), string(reason)}, what...), "\n"))
			i, known := place[key]
			if !known {
				i = len(out)
				place[key] = i
				out = append(out, Cause{Reason: reason, Step: x.Step, Level: x.Level, Text: x.Text, Fix: x.Fix})
			}
			if !counted[i] {
				counted[i] = true
				out[i].Peers = append(out[i].Peers, victim(f, t.Peer, x.Text))
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Cause) int {
		return cmp.Or(cmp.Compare(badness(b.Level), badness(a.Level)), cmp.Compare(len(b.Peers), len(a.Peers)))
	})
	return out
}

func badness(l Level) int { return slices.Index([]Level{Note, Unknown, Fault}, l) }

// victim is a peer with what is known of its time.
func victim(f Facts, p status.Peer, text string) Victim {
	v := Victim{Subnet: p.Subnet, PublicIP: p.PublicIP, Text: text, Way: p.Since}
	if p.Session != nil {
		v.Handshake = p.Session.Handshake
	}
	if !p.Expires.IsZero() && !p.ExpiryUnknown {
		v.Renewed = p.Expires.Add(-subnet.LeaseTTL)
	}
	if f.Status.Probes != nil {
		i := slices.IndexFunc(f.Status.Probes.Peers, func(x status.Probe) bool { return x.Subnet == p.Subnet })
		if i >= 0 && !f.Status.Probes.Peers[i].Well() {
			v.Since = f.Status.Probes.Peers[i].Since
		}
	}
	return v
}

const (
	fewPeers  = 3  // are named
	fewCauses = 20 // are printed
)

// Print shows the report to people: how many peers are reached, what is wrong on this host, and
// each cause once.
func (r *Report) Print(w io.Writer, colour bool) error {
	if _, err := fmt.Fprintln(w, r.headline()); err != nil {
		return err
	}
	var rows []row
	for _, x := range r.Host {
		if x.Level != OK && x.Level != Skipped {
			rows = append(rows, x.row())
		}
	}
	for i, c := range r.Causes {
		if i == fewCauses {
			rows = append(rows, note("%s more causes are in what flanneld check --all -o json prints",
				thousands(len(r.Causes)-i)).row())
			break
		}
		rows = append(rows, c.row(r.Time))
	}
	return printRows(w, rows, colour)
}

// headline is all in a line.
func (r *Report) headline() string {
	s := r.Summary
	if s.Peers == 0 {
		return "no peer is known"
	}
	if s.External == s.Peers {
		return plural(s.Peers, "peer") + ": " + external
	}
	var b strings.Builder
	if r.Interrupted {
		b.WriteString("interrupted: ")
	}
	fmt.Fprintf(&b, "%s of %s reached in %.0f s", thousands(s.Reached), plural(s.Peers, "peer"), max(1, r.Took))
	for _, part := range []struct {
		n    int
		text string
	}{
		{s.NotReached, "not: " + plural(s.Causes, "cause")},
		{s.NotKnown, "not known"},
		{s.External, "not by flanneld"},
	} {
		if part.n > 0 {
			fmt.Fprintf(&b, "; %s %s", thousands(part.n), part.text)
		}
	}
	switch {
	case s.NotProbed > 0 && r.Interrupted:
		fmt.Fprintf(&b, "; %s not looked at", thousands(s.NotProbed))
	case s.NotProbed > 0:
		fmt.Fprintf(&b, "; %s not tried before this host is right", thousands(s.NotProbed))
	}
	return b.String()
}

func (c Cause) row(now time.Time) row {
	x := c.finding().row()
	var names []string
	for _, v := range c.Peers[:min(len(c.Peers), fewPeers)] {
		names = append(names, fmt.Sprintf("%v (%v)", v.Subnet, v.PublicIP))
	}
	text := strings.Join(names, ", ")
	if more := len(c.Peers) - len(names); more > 0 {
		text += " and " + thousands(more) + " more"
	}
	x.lines = append([]line{{"peers:", text}}, x.lines...)
	if since := c.since(now); since != "" {
		x.lines = slices.Insert(x.lines, 1, line{"since:", since})
	}
	return x
}

// since words what is known of the time: the best that there is. A host that has shaken hands, or
// renewed its lease, was not silent then, and nothing more.
func (c Cause) since(now time.Time) string {
	gone := slices.Contains([]Reason{HostSilent, NoTunnel}, c.Reason)
	handless := gone || slices.Contains([]Reason{TunnelSilent, "handshake"}, c.Reason)
	for _, kind := range []struct {
		tells bool
		of    func(Victim) time.Time
		text  string
	}{
		{true, func(v Victim) time.Time { return v.Since }, "%s ago, as the running flanneld has seen"},
		{handless, func(v Victim) time.Time { return v.Handshake }, "its last handshake, %s ago, or later"},
		{gone, func(v Victim) time.Time { return v.Renewed }, "it renewed its lease, %s ago, or later"},
		{true, func(v Victim) time.Time { return v.Way }, "not known; this has been the way to it for %s"},
	} {
		var least, most time.Duration
		n := 0
		for _, v := range c.Peers {
			if at := kind.of(v); !at.IsZero() && at.Before(now) {
				d := now.Sub(at)
				if n++; n == 1 || d < least {
					least = d
				}
				most = max(most, d)
			}
		}
		if n == 0 || !kind.tells {
			continue
		}
		text := span(least)
		if span(most) != text {
			text += " to " + span(most)
		}
		text = fmt.Sprintf(kind.text, text)
		if n < len(c.Peers) {
			text += " (of " + thousands(n) + ")"
		}
		return text
	}
	return ""
}

// span is a duration as people say it.
func span(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	case d >= time.Hour:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	}
	return d.Round(time.Second).String()
}

func plural(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return thousands(n) + " " + what
}

// thousands is a number as people write it.
func thousands(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
