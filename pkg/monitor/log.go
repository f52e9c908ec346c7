package monitor

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"k8s.io/klog/v2"

	"flanneld/pkg/status"
)

const (
	linesAtOnce = 6 // of the log
	lineEvery   = 10 * time.Minute
	namedAtOnce = 3 // peers in a line
)

// transitions are what has become of peers in a round, and how many lines the log may have.
type transitions struct {
	of       map[string][]netip.Prefix // by what the line says
	spent    int                       // lines
	refilled time.Time
	withheld int // transitions since the last line
}

// said is what the log says of peers that have come into a state.
var said = map[string]string{
	status.Silent: "Peers do not answer probes; flanneld check tries the path",
	status.Lossy:  "Probes of peers get lost; flanneld check tries the path",
	status.Narrow: "Peers answer short probes, but none as long as containers' packets may be",
	status.Well:   "Peers answer probes again",
}

// note takes up what a peer has become.
func (t *transitions) note(peer netip.Prefix, before string, r *record) {
	if r.state == before {
		return
	}
	if t.of == nil {
		t.of = map[string][]netip.Prefix{}
	}
	t.of[r.state] = append(t.of[r.state], peer)
}

// write logs a line for each state that peers have come into, a few lines at once and then
// one in a while, which says how much it stands for.
func (t *transitions) write(now time.Time) {
	for n := now.Sub(t.refilled) / lineEvery; t.spent > 0 && n > 0; n-- {
		t.spent, t.refilled = t.spent-1, t.refilled.Add(lineEvery)
	}
	if t.spent == 0 {
		t.refilled = now
	}
	for _, state := range status.ProbeStates() {
		peers := t.of[state]
		switch {
		case len(peers) == 0:
		case t.spent == linesAtOnce:
			t.withheld += len(peers)
		default:
			values := []any{"peers", named(peers)}
			if t.withheld > 0 {
				values = append(values, "changesNotLogged", t.withheld)
			}
			klog.InfoS(said[state], values...)
			t.spent, t.withheld = t.spent+1, 0
		}
	}
	clear(t.of)
}

// named are the first of peers, and how many more there are.
func named(peers []netip.Prefix) string {
	var out []string
	for _, p := range peers[:min(len(peers), namedAtOnce)] {
		out = append(out, p.String())
	}
	text := strings.Join(out, ", ")
	if more := len(peers) - namedAtOnce; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
