package subnet

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"k8s.io/klog/v2"
)

// follow applies events and keeps the lease until ctx ends, the watch breaks,
// or a new list is needed for another reason, which is no error. Where the watch goes on
// after another one, nothing is decided before it stands: the store may be another.
func (m *Manager) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	index, sure := m.index(), !m.resumes
	events, broken, stands := make(chan []Event), make(chan error, 1), make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() { broken <- m.watch(ctx, index, events, stands) })
	defer watching.Wait()
	defer cancel()

	var relist bool     // when the deadline is over
	var heard uint64    // the index that was reached when it was set
	var quiet time.Time // a write failed: no further one before this, whatever events arrive
	deadline := time.NewTimer(0)
	defer deadline.Stop()
	released := time.NewTimer(m.releaseExpired()) // what was retained
	defer released.Stop()
	m.lasts = false
	m.vain++
	var lasts <-chan time.Time
	looked := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-broken:
			if !looked && sure { // where no watch lasts, lists alone must lead to a lease
				m.keepLease(ctx)
			}
			return err
		case <-stands:
			stands, lasts, m.vain = nil, time.After(shortWatch), 0
			if sure {
				continue
			}
			sure = true
			klog.InfoS("Going on with the watch on etcd, as the store is the same", "index", index)
			deadline.Reset(announced)
			heard = m.index()
		case <-lasts:
			m.lasted()
			continue
		case batch := <-events:
			m.update(func(s *state) { s.replica.apply(batch, time.Now()) })
			released.Reset(m.releaseExpired())
		case <-m.claims:
		case <-released.C:
			released.Reset(m.releaseExpired())
		case <-deadline.C:
			if !sure {
				continue
			}
			if now := m.index(); m.await > now {
				if now > heard { // it tells what came before: a new watch would have to begin with that
					heard = now
					deadline.Reset(announced)
					continue
				}
				klog.InfoS("Etcd has not announced this host's own write: listing everything again", "index", m.await)
				return nil
			}
			if relist {
				return nil
			}
		}
		if !sure || m.await > m.index() || time.Now().Before(quiet) {
			continue
		}
		outcome := m.keepLease(ctx)
		looked = true
		if outcome.relist && !outcome.failed {
			return nil
		}
		relist = outcome.relist
		m.await, quiet = outcome.await, time.Time{}
		if outcome.failed {
			quiet = time.Now().Add(outcome.again)
		}
		deadline.Reset(outcome.again)
		heard = m.index()
	}
}

// watch passes events on until ctx ends or the watch breaks. It closes stands once
// the watch stands.
func (m *Manager) watch(ctx context.Context, index uint64, events chan<- []Event, stands chan<- struct{}) error {
	begun := sync.OnceFunc(func() { close(stands) })
	return m.registry.Watch(ctx, index, func(batch []Event) {
		begun()
		if len(batch) == 0 {
			return
		}
		select {
		case events <- batch:
		case <-ctx.Done():
		}
	})
}

// releaseExpired lets go of what was retained for long enough, and returns how long until
// it is to be called again.
func (m *Manager) releaseExpired() (next time.Duration) {
	m.with(func(s *state) {
		var changed bool
		if changed, next = s.replica.releaseExpired(time.Now()); changed {
			signal(m.changed)
		}
	})
	return next
}

func (m *Manager) index() (at uint64) {
	m.with(func(s *state) { at = s.replica.index })
	return at
}

// outcome is what follows from one look at the lease.
type outcome struct {
	again  time.Duration // look again after this long at the latest
	await  uint64        // decide nothing before the replica has reached this index
	relist bool          // the replica is not to be trusted
	failed bool          // a write failed: do nothing at all for that long
}

// announced bounds the time between a write and its event, while the watch tells nothing at all.
const announced = 5 * time.Second

// keepLease does what is due about our lease.
func (m *Manager) keepLease(ctx context.Context) outcome {
	var due step
	m.with(func(s *state) {
		before, living := s.holder.held(), maps.Clone(s.holder.living)
		due = s.next(time.Now())
		if s.holder.held() != before || !maps.Equal(s.holder.living, living) {
			signal(m.changed)
		}
	})
	if due.do == wait {
		if m.writes.Failing() && !due.unsettled { // and there is nothing to write any more
			m.writes.Succeeded()
		}
		return outcome{again: due.wait}
	}
	asked := time.Now()
	stored, err := m.writeLease(ctx, due)
	var next afterWrite
	m.with(func(s *state) { next = s.wrote(due, stored, err, time.Now()) })
	switch {
	case err != nil && (next.stuck || !errors.Is(err, ErrConflict)):
		again := rest(m.writes.Failed(err), time.Since(asked), err)
		return outcome{again: again, failed: true, relist: next.relist}
	case err != nil:
		return outcome{relist: next.relist}
	}
	m.writes.Succeeded()
	if due.do == refresh {
		signal(m.changed) // no event tells of it
		return outcome{}
	}
	return outcome{await: stored.Modified, again: announced}
}

// next names what is due.
func (s *state) next(now time.Time) step {
	if s.claim == nil {
		return step{wait: lookAgain}
	}
	before := s.holder.own
	due := s.holder.next(&s.replica, *s.claim, now)
	if s.holder.own != before {
		s.replica.ours = s.holder.own.Subnet
	}
	return due
}

// afterWrite is what follows from a write's end.
type afterWrite struct {
	relist bool // the replica is not to be trusted
	stuck  bool // it was lost, as before
}

// wrote notes what became of a write.
func (s *state) wrote(due step, stored Entry, err error, now time.Time) (next afterWrite) {
	h := &s.holder
	if h.asks(due) {
		h.wroteQuestion(stored, err, now)
	}
	switch {
	case errors.Is(err, ErrConflict):
		// Somebody was faster. That the replica does not show it yet is
		// normal where the key is new to us, and wrong where it was ours, as one that is replaced was.
		next.relist = due.do == replace || !h.refuse(due.entry.Key)
		next.stuck = h.lost.lose(due.entry)
		return next
	case errors.Is(err, ErrBlocked) && due.entry.Key != h.previous.Key():
		h.refuse(due.entry.Key) // the subnet file's is worth waiting for
	case due.do == remove: // which is no write of the lease that is held
		if err != nil {
			h.dropFailed(due.entry.Key, now)
		}
	case err != nil:
		h.written = 0
	default:
		h.written = stored.Modified
		if due.do == refresh {
			s.replica.put(stored, now)
			h.recordRenewal(stored, now)
		}
	}
	h.lost = lostWrites{}
	return next
}

func (m *Manager) writeLease(ctx context.Context, s step) (Entry, error) {
	switch s.do {
	case refresh:
		return m.registry.Refresh(ctx, s.entry)
	case remove:
		return Entry{}, m.registry.Delete(ctx, s.entry)
	case replace:
		return m.registry.Replace(ctx, s.old, s.entry)
	default:
		return m.registry.Put(ctx, s.entry)
	}
}
