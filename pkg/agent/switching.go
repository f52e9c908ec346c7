package agent

import (
	"time"

	"flanneld/pkg/subnet"
)

// changing is a change of the config key that is not followed yet. Hosts hear of
// changes at slightly different moments, and each follows what it sees then: of a key
// that changes many times in a row, each would follow another value, and not reach
// the others. So a change is followed once it has stood for some time. Until then
// this host does nothing that a former one has begun.
type changing struct {
	to    subnet.Entry
	since time.Time
}

// settleTime is ample for all hosts to have seen the same config.
const settleTime = 2 * time.Second

// paced is view with the config key that is to be followed now, and how long a
// change that has to wait still waits; resync: there is none.
func (a *Agent) paced(view subnet.View, now time.Time) (subnet.View, time.Duration) {
	to, known := subnet.Entry{Value: view.Config, TooLong: view.ConfigTooLong}, a.inputs.config
	if to == known || a.current == nil {
		a.changing = changing{}
		return view, resync
	}
	if a.changing.to != to || a.changing.since.IsZero() {
		a.changing = changing{to, now}
	}
	if left := settleTime - now.Sub(a.changing.since); left > 0 {
		view.Config, view.ConfigTooLong = known.Value, known.TooLong
		return view, left
	}
	a.changing = changing{}
	return view, resync
}

// waiting tells that the config key says something else by now than what is followed.
func (c changing) waiting() bool { return !c.since.IsZero() }
