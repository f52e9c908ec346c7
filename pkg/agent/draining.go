package agent

import (
	"slices"
	"time"

	"flanneld/pkg/kernel"
)

// draining are devices of setups that were left. Peers that have not heard of it
// yet still send to them. Each has its own end, and there are few: the oldest go
// first.
type draining []leftDevice

type leftDevice struct {
	kernel.Device
	until time.Time
}

const (
	// drainingTime is ample for a peer's watch to tell it of a lease.
	drainingTime = 10 * time.Second
	// mostDraining bounds what a config key that changes again and again leaves.
	mostDraining = 4
)

func (d *draining) add(devices []kernel.Device, now time.Time) {
	left := d.left(now)
	for _, one := range devices {
		left = slices.DeleteFunc(left, func(l leftDevice) bool { return l.Name == one.Name })
		left = append(left, leftDevice{one, now.Add(drainingTime)})
	}
	*d = left[max(0, len(left)-mostDraining):]
}

// left is those that are still to stay, the oldest first.
func (d *draining) left(now time.Time) draining {
	*d = slices.DeleteFunc(*d, func(l leftDevice) bool { return !now.Before(l.until) })
	return *d
}

// list is the devices that are still to stay.
func (d *draining) list(now time.Time) (out []kernel.Device) {
	for _, l := range d.left(now) {
		out = append(out, l.Device)
	}
	return out
}

// next is how long until the first of the devices may go.
func (d *draining) next(now time.Time) time.Duration {
	if left := d.left(now); len(left) > 0 {
		return left[0].until.Sub(now)
	}
	return resync
}
