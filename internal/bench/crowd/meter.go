package crowd

import (
	"context"
	"sync"
	"sync/atomic"

	"flanneld/pkg/subnet"
)

// meter is a Registry that notes what a host is told.
type meter struct {
	subnet.Registry
	history *History

	reached atomic.Uint64 // the index that the host has heard of
	lists   atomic.Int64
	told    atomic.Int64 // entries and events

	mu sync.Mutex
	account
}

// List implements [subnet.Registry].
func (m *meter) List(ctx context.Context) (subnet.Snapshot, error) {
	s, err := m.Registry.List(ctx)
	if err != nil {
		return s, err
	}
	m.lists.Add(1)
	m.told.Add(int64(len(s.Entries)))
	var sum uint64
	for _, e := range s.Entries {
		sum += m.history.note(e, false)
	}
	m.mu.Lock()
	m.account = account{m.host, s.Index, sum, 0}
	m.mu.Unlock()
	m.reached.Store(s.Index)
	return s, nil
}

// Watch implements [subnet.Registry].
func (m *meter) Watch(ctx context.Context, after uint64, emit func([]subnet.Event)) error {
	return m.Registry.Watch(ctx, after, func(events []subnet.Event) {
		var sum uint64
		for _, e := range events {
			sum += m.history.note(e.Entry, e.Deleted)
		}
		m.mu.Lock()
		m.since += sum
		m.mu.Unlock()
		emit(events)
		if len(events) > 0 {
			m.told.Add(int64(len(events)))
			m.reached.Store(events[len(events)-1].Modified)
		}
	})
}

func (m *meter) read() account {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.account
}
