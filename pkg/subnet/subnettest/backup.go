package subnettest

import (
	"slices"
	"time"

	"flanneld/pkg/subnet"
)

// Restart breaks all watches. Nothing is lost; there is an election.
func (s *Store) Restart() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.term++
	s.start()
}

func (s *Store) start() {
	s.started++
	s.wake()
}

// Wipe replaces the store by an empty one whose index starts anew, of another cluster.
func (s *Store) Wipe() { s.Restore(Backup{}, NewCluster, nil) }

// Backup is a store at an earlier time, with its history.
type Backup struct {
	index   uint64
	term    int
	entries []entry // TTL: what was left
	history []event
}

// Index is that of the store as the backup was made.
func (b Backup) Index() uint64 { return b.index }

// Backup makes one.
func (s *Store) Backup() Backup {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := Backup{index: s.index, term: s.term, history: slices.Clone(s.history)}
	for _, e := range s.entries {
		b.entries = append(b.entries, entry{Entry: e.read(), mark: e.mark})
	}
	return b
}

// Identity is what a store that is restored says of itself.
type Identity int

const (
	NewCluster  Identity = iota // as of one that was made for the purpose
	SameCluster                 // with an election since the backup: its folder was copied back
	LaterTerm                   // the same, and as many elections as the store has seen, and one more
)

// Restore replaces the store by an earlier one, in which others write before any
// watcher learns of it. Nothing that was given to a write is given again.
func (s *Store) Restore(b Backup, as Identity, others []subnet.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.entries {
		e.stop()
	}
	term := s.term
	s.entries, s.history, s.index, s.term = map[string]*entry{}, slices.Clone(b.history), b.index, b.term+1
	switch as {
	case NewCluster:
		s.cluster += "'"
	case LaterTerm:
		s.term = max(s.term, term+1)
	}
	for _, e := range b.entries {
		if e.TTL > 0 {
			e.expires = time.Now().Add(e.TTL)
			e.timer = time.AfterFunc(e.TTL, func() { s.expire(&e) })
		}
		s.entries[e.Key] = &e
	}
	for _, o := range others {
		if o.Deleted {
			s.end(o.Key)
		} else {
			s.write(o.Entry, true)
		}
	}
	s.start()
}

// Since are the changes after an index that the store remembers.
func (s *Store) Since(index uint64) (all []subnet.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.history {
		if e.Modified > index {
			all = append(all, e.Event)
		}
	}
	return all
}
