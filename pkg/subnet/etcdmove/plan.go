// Package etcdmove copies a cluster's keys from one store to another while its
// hosts run, and looks after both until the last host has moved.
//
// A host that has not moved yet renews its lease in the old store alone, and one
// that has moved in the new one. Each must find the other's lease in its own
// store. So a move is done by the same plan as often as one likes: whatever is
// missing in the new store is copied, and whichever of two equal leases ends
// first is prolonged to the end of the other.
package etcdmove

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"flanneld/pkg/subnet"
)

// Action is what is to be done about a key.
type Action string

// The new store's key is made, written again, made to last as long as the old
// one's, or left; or the old one's is made to last as long as the new one's.
const (
	Copy       Action = "copy"
	Replace    Action = "replace"
	Prolong    Action = "prolong"
	ProlongOld Action = "prolong the old one"
	Keep       Action = "nothing"
)

// Change is what is to be done about one key.
type Change struct {
	Key    string // below the prefix
	Do     Action
	Reason string // why nothing is done, or another value is replaced
	Old    subnet.Entry
	New    subnet.Entry // Modified 0: there is none
}

// slack is by how much lifetimes may differ: they are read one after the other.
const slack = time.Minute

// Plan compares two stores. moved says that everything has been copied before, so
// that what differs in the new one is newer.
func Plan(from, to subnet.Snapshot, moved bool) []Change {
	there := map[string]subnet.Entry{}
	for _, e := range to.Entries {
		there[e.Key] = e
	}
	here, beyond := dualsOf(from), dualsOf(to)
	var plan []Change
	for _, e := range from.Entries {
		_, err := subnet.ParseKey(e.Key)
		isLease := strings.HasPrefix(e.Key, subnet.LeaseDir+"/")
		switch {
		case e.Key != subnet.ConfigKey && !isLease:
			continue
		case isLease && err != nil:
			plan = append(plan, Change{Key: e.Key, Do: Keep, Reason: "no lease: " + err.Error(), Old: e})
		default:
			c := compare(e, there[e.Key], moved)
			// Of the keys of one subnet the first is the holder's, and what is there comes first.
			holder := cmp.Or(here.beside(e.Key, e.Created), beyond.beside(e.Key, math.MaxUint64))
			if c.Do == Copy && holder != "" {
				c.Do, c.Reason = Keep, "not copied: its subnet is leased by "+holder
			}
			plan = append(plan, c)
		}
		delete(there, e.Key)
	}
	for _, e := range there {
		if _, err := subnet.ParseKey(e.Key); err == nil || e.Key == subnet.ConfigKey {
			plan = append(plan, Change{Key: e.Key, Do: Keep, Reason: "only in the new store", New: e})
		}
	}
	slices.SortFunc(plan, func(a, b Change) int { return strings.Compare(a.Key, b.Key) })
	return plan
}

// duals are the dual-stack keys by each of their subnets.
type duals map[netip.Prefix][]subnet.Entry

func dualsOf(s subnet.Snapshot) duals {
	all := duals{}
	for _, e := range s.Entries {
		if of, err := subnet.ParseKey(e.Key); err == nil && len(of.All()) > 1 {
			for _, p := range of.All() {
				all[p] = append(all[p], e)
			}
		}
	}
	return all
}

// beside is the dual-stack key that has the subnet of a key of one family, having come
// before; "": there is none.
func (d duals) beside(key string, before uint64) string {
	of, err := subnet.ParseKey(key)
	if err != nil || len(of.All()) > 1 {
		return ""
	}
	for _, e := range d[of.First()] {
		if e.Created < before {
			return e.Key
		}
	}
	return ""
}

func compare(before, now subnet.Entry, moved bool) Change {
	c := Change{Key: before.Key, Old: before, New: now}
	_, unread := before.Text()
	switch {
	case unread != nil:
		c.Do, c.Reason = Keep, "not copied: it "+unread.Error()
	case now.Modified == 0:
		c.Do = Copy
	case (now.Value != before.Value || now.TooLong > 0) && moved:
		c.Do, c.Reason = Keep, "it differs, and the new store's is newer"
	case now.Value != before.Value || now.TooLong > 0:
		c.Do, c.Reason = Replace, "the new store has another value"
	case longer(before, now):
		c.Do = Prolong
	case moved && longer(now, before):
		c.Do = ProlongOld
	default:
		c.Do, c.Reason = Keep, "it is there"
	}
	return c
}

// longer tells whether a lasts longer than b.
func longer(a, b subnet.Entry) bool {
	return b.TTL != 0 && (a.TTL == 0 || a.TTL > b.TTL+slack)
}
