package subnet

import (
	"context"
	"errors"
	"time"
)

// Registry is the cluster's store as far as flanneld needs it: a few keys under
// one prefix, compare-and-swap writes with a lifetime, and a watch. It is the
// only door to etcd; etcdv2 and etcdv3 implement it, and subnettest has one in
// memory.
//
// Every method ends with its context, and has a deadline of its own beneath
// it. An error other than the sentinels below means that the outcome is
// unknown: a write may have been carried out.
type Registry interface {
	// List returns every entry under the prefix as of one index. A prefix that
	// does not exist is an empty Snapshot. The read is linearizable.
	List(ctx context.Context) (Snapshot, error)

	// Watch hands every change after the given index to emit, in order, until
	// ctx ends or the watch breaks; a call without events says that the watch
	// stands. After any error but ErrHistoryLost it may go on, see Resume.
	// ErrHistoryLost says that the store does not have all changes after the index any
	// more, or that it is not for sure the store of the last list: list again. So the
	// second watch after a list, and each later one, stands only once the store has told
	// the latest changes once more that it had told before (see [Trail]).
	//
	// A watch that tells nothing for lack of news is not one that tells nothing
	// for lack of life: a member that hangs, or that has lost the others, is
	// found out within 15 seconds. Then the watch breaks, and what is called
	// next asks another member.
	Watch(ctx context.Context, after uint64, emit func([]Event)) error

	// Resume tells whether a watch may go on after an index, without a list: nil where
	// the store answers, and is the one that was listed as far as one small,
	// linearizable read shows. The watch that follows looks at the rest.
	// ErrHistoryLost: list again.
	Resume(ctx context.Context, after uint64) error

	// Proven is until when the latest watch is known to have told everything;
	// zero: there was none. While a watch stands it is never long ago.
	Proven() time.Time

	// Put writes e.Value with lifetime e.TTL (0: for ever) if the key still
	// has the modified index e.Modified, where 0 means that the key is absent.
	// It returns the entry as stored. ErrConflict: somebody else wrote it.
	Put(ctx context.Context, e Entry) (Entry, error)

	// Replace does what Put does for an absent key, and deletes old, by one transaction where the
	// store has such: watchers hear of the deletion first. Otherwise both keys are there for a
	// moment, and e is written once more in the end: a host of flannel's takes the subnet's
	// route away with the key that goes, and has it again by the last write.
	// ErrConflict: somebody else wrote one of the two.
	Replace(ctx context.Context, old, e Entry) (Entry, error)

	// Refresh sets the remaining lifetime to e.TTL under the same condition. It
	// tells no watcher, unless the store can set that lifetime only by a write, or has
	// told nothing for so long that no watch could go on after it breaks.
	// It returns the entry as stored; its index may be that of before.
	Refresh(ctx context.Context, e Entry) (Entry, error)

	// Delete removes the key under the same condition.
	Delete(ctx context.Context, e Entry) error
}

// Entry is a key of the store and what is known of it.
type Entry struct {
	Key      string        // below the prefix: "config", "subnets/172.7.21.0-24"
	Value    string        // as stored
	TooLong  int           // bytes of a value beyond LongestValue, which is left out; 0: Value is the whole
	TTL      time.Duration // left at the time of reading, in whole seconds; 0: no expiry; or UnknownTTL
	Created  uint64        // the index at which the key came to be
	Modified uint64        // the index of its last write
}

// UnknownTTL is the lifetime of a key that ends, though the store did not say
// when.
const UnknownTTL time.Duration = -1

// Event is one change of one key. A deleted or expired key keeps its Key and
// has the index of its end in Modified.
type Event struct {
	Entry
	Deleted bool
}

// Snapshot is the content of the prefix at one moment.
type Snapshot struct {
	Entries []Entry
	Index   uint64 // watch from here
	Cluster string // the cluster's ID, empty where the store has none
	Omitted int    // keys that mean nothing to flanneld, beyond those in Entries

	NoConfig NoConfig // where there is no config key

	strange, size int // what Add has counted
}

// Find returns a key's entry; the zero Entry where there is none.
func (s Snapshot) Find(key string) Entry {
	for _, e := range s.Entries {
		if e.Key == key {
			return e
		}
	}
	return Entry{}
}

// Has tells whether there is such a key.
func (s Snapshot) Has(key string) bool { return s.Find(key).Key == key }

var (
	// ErrConflict says that the key is not as the writer expected it.
	ErrConflict = errors.New("the key was written by somebody else")
	// ErrBlocked says that something that is no key is in the key's place, or a key
	// in that of a directory above it. It stays until somebody takes it away.
	ErrBlocked = errors.New("something else is in the key's place")
	// ErrSilent says that the member at the other end of a watch, or of a call, is
	// connected, and tells nothing. It may have too much to do: whoever asks again leaves it time.
	ErrSilent = errors.New("it is silent, though connected: it hangs, is too busy, or is older than etcd 3.4")

	// ErrRenewed says that a watch has ended because what this host shows to the store was
	// replaced: the next one goes on by that.
	ErrRenewed = errors.New("certificates or the password were read anew")

	// ErrUntried says that the store answers neither by former credentials nor by new ones, so
	// that nobody can tell which are right: the new ones count.
	ErrUntried = errors.New("etcd answers neither by the former certificates and password nor by those that were read")

	// ErrHistoryLost says that the store no longer has the events asked for.
	ErrHistoryLost = errors.New("the event history does not reach back far enough")
)
