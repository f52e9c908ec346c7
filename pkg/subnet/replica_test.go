package subnet

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestOverlappingFindsAny holds the search to what a look at every lease finds,
// whatever lengths they have.
func TestOverlappingFindsAny(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		prefix := rapid.Custom(func(t *rapid.T) netip.Prefix {
			addr := netip.AddrFrom4([4]byte{10, 0, byte(rapid.IntRange(0, 3).Draw(t, "third")), 0})
			return netip.PrefixFrom(addr, rapid.SampledFrom([]int{0, 20, 24, 24, 24, 24, 25}).Draw(t, "bits")).Masked()
		})
		r := replica{leases: map[string]Lease{}}
		dual := rapid.SampledFrom([]string{"", "", "&fc00:7::-64", "&fc00:7:0:1::-64"})
		for i, p := range rapid.SliceOfN(prefix, 0, 6).Draw(t, "leases") {
			if p.Bits() == 0 {
				continue
			}
			r.put(Entry{Key: Key(p) + dual.Draw(t, "dual"), Value: `{"PublicIP":"10.4.7.21"}`, Created: uint64(i)}, time.Now())
		}
		asked := rapid.OneOf(prefix, rapid.Just(netip.Prefix{})).Draw(t, "asked")
		var want Lease
		except := ""
		for _, l := range r.all() {
			switch {
			case except == "" && rapid.Bool().Draw(t, "except"):
				except = l.Key
			case l.Subnet.Overlaps(asked) && (want.Key == "" || older(&l, &want)):
				want = l
			}
		}
		if got, found := r.overlapping(asked, func(l *Lease) bool { return l.Key == except }); got != want || found != (want.Key != "") {
			t.Fatalf("overlapping(%v) but for %s among %v: %v, want %v", asked, except, slices.Collect(maps.Keys(r.leases)), got, want)
		}
	})
}

// TestEveryLeaseOnce: whatever comes and goes, all are shown once, in order, and
// none beside one that overlaps it.
func TestEveryLeaseOnce(t *testing.T) {
	var r replica
	s, now := snapshotOf(20), time.Now()
	r.replace(s, now)
	gone := func(i int) Event {
		return Event{Entry: s.Entries[i], Deleted: true}
	}
	for _, step := range []struct {
		name  string
		event Event
	}{
		{"one goes, and is retained", gone(1)},
		{"it comes back", Event{Entry: s.Entries[1]}},
		{"another goes", gone(2)},
		{"a part of it is leased", Event{Entry: Entry{Key: "subnets/10.0.2.0-25", Value: s.Entries[2].Value}}},
	} {
		r.apply([]Event{step.event}, now)
		all := r.all()
		if len(all) != 20 || !slices.IsSortedFunc(all, func(a, b Lease) int { return a.Subnet.Compare(b.Subnet) }) {
			t.Errorf("%s: %d leases: %v", step.name, len(all), all)
		}
	}
}

var sizes = []int{250, 1000, 4000}

// snapshotOf has the leases of n hosts.
func snapshotOf(n int) Snapshot {
	s := Snapshot{Index: 1}
	for i := range n {
		a, b := byte(i>>8), byte(i)
		s.Entries = append(s.Entries, Entry{
			Key:   Key(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, a, b, 0}), 24)),
			Value: fmt.Sprintf(`{"PublicIP":"172.16.%d.%d","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"0a:00:00:00:%02x:%02x"}}`, a, b, a, b),
			TTL:   LeaseTTL, Created: uint64(i), Modified: uint64(i),
		})
	}
	return s
}

func BenchmarkReplace(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			s, r := snapshotOf(n), replica{}
			for b.Loop() {
				r.replace(s, time.Now())
			}
		})
	}
}

// BenchmarkEvent is one lease's change, and the decision about our own.
func BenchmarkEvent(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			s := snapshotOf(n)
			st := &state{}
			st.replica.replace(s, time.Now())
			own := st.replica.leases["subnets/10.0.0.0-24"]
			config := Config{Range: Range{Network: netip.MustParsePrefix("10.0.0.0/8"), SubnetLen: 24}}
			config.SubnetMin, config.SubnetMax = own.Subnet.Addr(), netip.MustParseAddr("10.255.255.0")
			event := []Event{{Entry: s.Entries[1]}}
			for b.Loop() {
				st.replica.apply(event, time.Now())
				st.holder.next(&st.replica, Claim{Config: config, Attrs: own.Attrs}, time.Now())
				if st.holder.own.Subnet != own.Subnet {
					b.Fatalf("%+v is held, instead of %+v", st.holder.own, own)
				}
			}
		})
	}
}

func BenchmarkView(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			m := NewManager(unproven{}, Options{})
			m.with(func(s *state) { s.replica.replace(snapshotOf(n), time.Now()) })
			for b.Loop() {
				if len(m.View().Leases) != n {
					b.Fatal("leases are missing")
				}
			}
		})
	}
}

// unproven is a Registry of which nothing but Proven is called.
type unproven struct{ Registry }

func (unproven) Proven() time.Time { return time.Time{} }
