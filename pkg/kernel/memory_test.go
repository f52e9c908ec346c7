package kernel

import (
	"net/netip"
	"slices"
	"testing"
)

// neighbours are entries at hops 1, 2 and so on with the given last bytes of
// their MACs; 0: there is none.
func neighbours(macs ...byte) (out []Neighbour) {
	for i, m := range macs {
		if m != 0 {
			out = append(out, Neighbour{"flannel.1", netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), MAC{2, 0, 0, 0, 0, m}})
		}
	}
	return out
}

func TestMemory(t *testing.T) {
	op := func(n Neighbour) Op { return Op{Action: Replace, Object: n} }
	for _, c := range []struct {
		name      string
		was, want []Neighbour
		partial   bool
		undone    []Op
		now       []Neighbour
	}{
		{"all is new", nil, neighbours(1, 2), false, nil, neighbours(1, 2)},
		{"one goes", neighbours(1, 2), neighbours(0, 2), false, nil, neighbours(0, 2)},
		{"nothing goes in a partial pass", neighbours(1, 2), neighbours(0, 2, 3), true, nil, neighbours(1, 2, 3)},
		{"what changes in a partial pass", neighbours(1, 2), neighbours(9), true, nil, neighbours(9, 2)},
		{"a write that failed", neighbours(1, 2), neighbours(9, 2, 3), false, []Op{op(neighbours(9)[0]), op(neighbours(0, 0, 3)[0])}, neighbours(1, 2)},
		{"a removal that failed", neighbours(1, 2), neighbours(1), false, []Op{{Action: Delete, Object: neighbours(0, 2)[0]}}, neighbours(1, 2)},
		{"the same in a partial pass", neighbours(1, 2), neighbours(9, 0, 3), true, []Op{op(neighbours(9)[0])}, neighbours(1, 2, 3)},
	} {
		was, want := memoryOf(State{Neighbours: slices.Clone(c.was)}), slices.Clone(c.want)
		now := was.after(memoryOf(State{Neighbours: want}), c.partial, c.undone, nil)
		var got []Neighbour
		for _, n := range neighbours(1, 2, 3, 4) {
			if x, has := now.neighbours.get(n.key()); has {
				got = append(got, x)
			}
		}
		if !slices.Equal(got, c.now) || len(now.neighbours.at) != len(c.now) {
			t.Errorf("%s: %v, not %v", c.name, got, c.now)
		}
		if !slices.Equal(want, c.want) || !slices.Equal(was.neighbours.list, c.was) {
			t.Errorf("%s: changed what it was made from", c.name)
		}
	}
}

// What is learned never shows in the caller's list.
func TestSetLeavesTheListAlone(t *testing.T) {
	list := neighbours(1, 2, 3)
	s := setOf(list[:2])
	s.learn(neighbours(9)[0])
	s.learn(neighbours(0, 0, 0, 4)[0])
	if !slices.Equal(list, neighbours(1, 2, 3)) || len(s.at) != 3 {
		t.Errorf("the list is %v, the set %v", list, s)
	}
}
