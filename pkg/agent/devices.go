package agent

import (
	"maps"
	"slices"
	"time"

	"flanneld/pkg/kernel"
)

// peerDevices are the interfaces over which peers are reached, and so the ones
// that their packets come in by; and when each was wanted last. A peer that has
// not heard of a change yet still sends to one that was left.
type peerDevices map[string]time.Time

// note takes up those of a wanted state, and returns when to look again at the
// latest because one of the others may go.
func (d peerDevices) note(want kernel.State, now time.Time) time.Duration {
	for _, v := range want.Devices {
		d[v.Name] = now
	}
	for _, r := range want.Routes {
		d[r.Dev] = now
	}
	next := resync
	for name, last := range d {
		switch left := lingerTime - now.Sub(last); {
		case left <= 0:
			delete(d, name)
		case left < lingerTime:
			next = min(next, left)
		}
	}
	return next
}

func (d peerDevices) names() []string { return slices.Sorted(maps.Keys(d)) }
