package crowd

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"slices"
	"sync/atomic"

	"flanneld/pkg/subnet"
)

// History is what a crowd was told, by index: of each index what the first host that
// heard of it was told. By etcd's APIs one index is one write of one key, as long as
// nobody writes several in a transaction, which nothing here does.
type History struct {
	told   []atomic.Pointer[told]
	last   atomic.Uint64 // index
	differ atomic.Int64  // times that a host was told something else
}

type told struct {
	sum     uint64
	key     string
	deleted bool
}

// longest is how many writes a history has room for.
const longest = 1 << 20

func newHistory() *History { return &History{told: make([]atomic.Pointer[told], longest)} }

var seed = maphash.MakeSeed()

// digest tells entries and events apart. A sum of digests does not depend on their order.
func digest(e subnet.Entry, deleted bool) uint64 {
	sum := maphash.String(seed, e.Key)*3 + maphash.String(seed, e.Value)*5 + maphash.Comparable(seed, e.Modified)*7
	if deleted {
		sum = ^sum
	}
	return sum
}

// note compares what a host was told with what others were, and returns its digest.
func (h *History) note(e subnet.Entry, deleted bool) uint64 {
	sum := digest(e, deleted)
	if e.Modified >= longest {
		h.differ.Add(1) // there is no room to say what of
		return sum
	}
	at := &h.told[e.Modified]
	first := at.Load()
	if first == nil {
		if at.CompareAndSwap(nil, &told{sum, e.Key, deleted}) {
			raise(&h.last, e.Modified)
			return sum
		}
		first = at.Load()
	}
	if first.sum != sum {
		h.differ.Add(1)
	}
	return sum
}

func raise(to *atomic.Uint64, index uint64) {
	for {
		now := to.Load()
		if index <= now || to.CompareAndSwap(now, index) {
			return
		}
	}
}

// account is what a host was told: the sum of its last list, and of the events since.
type account struct {
	host     int
	listedAt uint64 // index
	listed   uint64
	since    uint64
}

// check says which of the hosts were told something else than the history, whose end
// must be what the store holds.
func (h *History) check(all []account, store subnet.Snapshot) error {
	if n := h.differ.Load(); n > 0 {
		return fmt.Errorf("%d entries and events were told differently to different hosts", n)
	}
	slices.SortFunc(all, func(a, b account) int { return cmp.Compare(a.listedAt, b.listedAt) })
	present := map[string]uint64{} // digests by key
	var listed, since uint64       // sums up to an index: of what is there, and of all events
	accounts := all
	last, at := h.last.Load(), map[uint64]account{}
	for index := range last + 1 {
		if t := h.told[index].Load(); t != nil {
			listed, since = listed-present[t.key], since+t.sum
			delete(present, t.key)
			if !t.deleted {
				present[t.key] = t.sum
				listed += t.sum
			}
		}
		for len(accounts) > 0 && (accounts[0].listedAt == index || index == last) {
			at[accounts[0].listedAt] = account{listed: listed, since: since}
			accounts = accounts[1:]
		}
	}
	for _, a := range all {
		then := at[a.listedAt]
		if a.listed != then.listed || a.since != since-then.since {
			return fmt.Errorf("host %d was told something else than others: its list at index %d is right: %t, its events: %t",
				a.host, a.listedAt, a.listed == then.listed, a.since == since-then.since)
		}
	}
	var stored uint64
	for _, e := range store.Entries {
		stored += digest(e, false)
	}
	if stored != listed {
		return fmt.Errorf("the store holds %d entries, and something else than the %d that hosts were told of",
			len(store.Entries), len(present))
	}
	return nil
}
