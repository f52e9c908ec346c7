package etcdv2

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// avoided are members that have just been silent. They are asked after all the
// others: client/v2 would begin with the one that it has asked last, and wait for
// it in vain once more.
type avoided struct {
	members int // in all

	mu    sync.Mutex
	since map[string]time.Time
}

// avoidFor is how long a member that was silent comes last.
const avoidFor = 30 * time.Second

var errSilent = errors.New("it was silent a moment ago, so another member is asked first")

// avoid makes a member come last. Where all do, none does.
func (a *avoided) avoid(member string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.since == nil {
		a.since = map[string]time.Time{}
	}
	a.since[member] = time.Now()
	if len(a.since) >= a.members {
		clear(a.since)
	}
}

// skip is an error for a member that another is to be asked before.
func (a *avoided) skip(member string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	at, there := a.since[member]
	switch {
	case !there:
		return nil
	case time.Since(at) > avoidFor:
		delete(a.since, member)
		return nil
	}
	return fmt.Errorf("%s: %w", member, errSilent)
}

// forgive is for when another member has failed too: at the next call all are asked.
func (a *avoided) forgive() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.since)
}
