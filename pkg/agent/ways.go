package agent

import (
	"fmt"
	"maps"
	"net/netip"
	"time"

	"flanneld/pkg/kernel"
)

// applied is what the last passes did to the kernel.
type applied struct {
	worked  time.Time // the last that found or made everything as it should be
	changed time.Time // the last that wrote
	change  string    // what it wrote
}

func (a *Agent) apply(want kernel.State) (kernel.Result, error) {
	start := time.Now()
	result, err := a.syncer.Apply(want)
	now := time.Now()
	if a.Applied != nil {
		a.Applied(now.Sub(start), err)
	}
	if err == nil {
		a.latest.worked = now
	}
	if n := len(result.Ops); n > 0 {
		a.latest.changed, a.latest.change = now, result.Ops[n-1].String()
		if n > 1 {
			a.latest.change += fmt.Sprintf(" (and %d more)", n-1)
		}
	}
	return result, err
}

// ways remember since when each peer is reached as it is.
type ways map[netip.Prefix]way

type way struct {
	via   netip.Addr // tells direct from tunnel as well
	since time.Time
}

// noteWays takes over the wanted routes.
func (a *Agent) noteWays(routes []kernel.Route, now time.Time) {
	if a.ways == nil {
		a.ways = make(ways, len(routes))
	}
	w := a.ways
	for _, r := range routes {
		if w[r.Dst].via != r.Via {
			w[r.Dst] = way{r.Via, now}
		}
	}
	if len(w) > len(routes) {
		still := make(map[netip.Prefix]bool, len(routes))
		for _, r := range routes {
			still[r.Dst] = true
		}
		maps.DeleteFunc(w, func(p netip.Prefix, _ way) bool { return !still[p] })
	}
}
