package agent

import (
	"time"

	"flanneld/pkg/kernel"
)

// draining are devices of a setup that was left. Peers that have not heard of it
// yet still send to them.
type draining struct {
	until   time.Time
	devices []kernel.Device
}

// drainingTime is ample for a peer's watch to tell it of a lease.
const drainingTime = 10 * time.Second

func (d *draining) add(devices []kernel.Device, now time.Time) {
	d.devices, d.until = append(d.list(now), devices...), now.Add(drainingTime)
}

// list is those that are still to stay.
func (d *draining) list(now time.Time) []kernel.Device {
	if !now.Before(d.until) {
		d.devices = nil
	}
	return d.devices
}

// next is how long until the devices may go.
func (d *draining) next(now time.Time) time.Duration {
	if len(d.list(now)) == 0 {
		return resync
	}
	return d.until.Sub(now)
}
