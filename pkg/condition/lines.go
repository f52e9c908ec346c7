package condition

import (
	"maps"
	"time"

	"flanneld/pkg/pace"
)

// lines are the conditions' in the log. Of one that comes and goes, or changes, again and
// again, there are ever fewer, down to one a minute; that it is there is said in the end.
type lines map[id]line

type line struct {
	pace pace.Pace
	open bool // the last says that it is there
	due  bool // what is so now has not been said
}

// eachLogged is how often in a row one is logged whenever it comes.
const eachLogged = 10

// due tells whether a condition that is there is to be logged now, and notes that it is.
func (all *lines) due(key id, news bool, there map[id]Condition) bool {
	now := time.Now()
	l, known := (*all)[key]
	if !news && !l.due {
		return false
	}
	if !known {
		if *all == nil {
			*all = lines{}
		}
		maps.DeleteFunc(*all, func(k id, l line) bool { _, is := there[k]; return !is && l.pace.Over(now) })
		l.pace = pace.Of(eachLogged)
	}
	if l.due = l.pace.Wait(now) > 0; !l.due {
		l.pace, l.open = l.pace.Repaired(now), true
	}
	(*all)[key] = l
	return !l.due
}

// over tells the same of a condition that is there no more: what was said is taken back.
func (all lines) over(key id) bool {
	l, known := all[key]
	said := l.open
	if l.open, l.due = false, false; known {
		all[key] = l
	}
	return said
}
