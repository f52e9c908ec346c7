package etcdmove

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/subnettest"
)

const (
	key21 = "subnets/172.7.21.0-24"
	key22 = "subnets/172.7.22.0-24"
)

// TestTooLong does not copy what was not read, and replaces it.
func TestTooLong(t *testing.T) {
	whole, long := subnet.Entry{Key: key21, Value: "a", Modified: 7}, subnet.Entry{Key: key21, TooLong: 1 << 20, Modified: 7}
	plan := func(from, to subnet.Entry) Change {
		return Plan(subnet.Snapshot{Entries: []subnet.Entry{from}}, subnet.Snapshot{Entries: []subnet.Entry{to}}, false)[0]
	}
	if c := plan(long, subnet.Entry{}); c.Do != Keep || c.Reason != "not copied: it is 1048576 bytes long, more than the 16384 that are read" {
		t.Errorf("%+v", c)
	}
	if c := plan(whole, long); c.Do != Replace {
		t.Errorf("%+v", c)
	}
	if c := plan(long, long); c.Do != Keep {
		t.Errorf("%+v", c)
	}
}

// TestPlan compares one key of two stores. A lifetime of 0 is a reservation's.
func TestPlan(t *testing.T) {
	type entry struct {
		value string
		ttl   time.Duration
	}
	for _, tt := range []struct {
		name     string
		key      string
		old, now *entry
		first    Action // the first time
		again    Action // when all has been copied before
	}{
		{"not there yet", key21, &entry{"a", time.Hour}, nil, Copy, Copy},
		{"the same", key21, &entry{"a", time.Hour}, &entry{"a", time.Hour + 30*time.Second}, Keep, Keep},
		{"its host has not moved, and renewed it", key21, &entry{"a", 24 * time.Hour}, &entry{"a", time.Hour}, Prolong, Prolong},
		{"its host has moved, and renewed it", key21, &entry{"a", time.Hour}, &entry{"a", 24 * time.Hour}, Keep, ProlongOld},
		{"reserved", key21, &entry{"a", 0}, nil, Copy, Copy},
		{"reserved meanwhile", key21, &entry{"a", 0}, &entry{"a", time.Hour}, Prolong, Prolong},
		{"reserved by those who moved", key21, &entry{"a", time.Hour}, &entry{"a", 0}, Keep, ProlongOld},
		{"another value", key21, &entry{"a", time.Hour}, &entry{"b", time.Hour}, Replace, Keep},
		{"only there", key21, nil, &entry{"b", time.Hour}, Keep, Keep},
		{"config", "config", &entry{"a", 0}, nil, Copy, Copy},
		{"another config", "config", &entry{"a", 0}, &entry{"b", 0}, Replace, Keep},
		{"no lease", "subnets/garbage", &entry{"a", 0}, nil, Keep, Keep},
		{"none of ours", "api", &entry{"2", 0}, nil, "", ""},
		{"none of ours there", "api", nil, &entry{"2", 0}, "", ""},
	} {
		snapshot := func(e *entry) (s subnet.Snapshot) {
			if e != nil {
				s.Entries = []subnet.Entry{{Key: tt.key, Value: e.value, TTL: e.ttl, Modified: 7}}
			}
			return s
		}
		for moved, want := range map[bool]Action{false: tt.first, true: tt.again} {
			var got Action
			plan := Plan(snapshot(tt.old), snapshot(tt.now), moved)
			if len(plan) == 1 {
				got = plan[0].Do
			}
			if len(plan) > 1 || got != want || want != Keep != (len(Left(plan)) == 1) && want != "" {
				t.Errorf("%s, moved %v: %+v, want %q", tt.name, moved, plan, want)
			}
		}
	}
}

// TestMove lets two hosts live in two stores for days.
func TestMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, to := subnettest.NewStore(), subnettest.NewStore()
		for range 5 {
			to.Set("config", "stray", 0) // so that indexes differ
		}
		from.Set("config", "{}", 0)
		from.Set(key21, "a", 24*time.Hour)
		from.Set(key22, "b", 5*time.Hour)
		from.Set("subnets/172.7.99.0-24", "r", 0)
		a, b := from.Client(), to.Client()
		move := func(moved bool) []Change {
			t.Helper()
			var plan []Change
			for range 2 { // the second one has nothing left to do
				old, err := a.List(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				now, err := b.List(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				plan = Plan(old, now, moved)
				if err := Apply(t.Context(), plan, a, b); err != nil {
					t.Fatal(err)
				}
			}
			if left := Left(plan); len(left) > 0 {
				t.Errorf("left to do: %+v", left)
			}
			return plan
		}
		move(false)
		renew := func(s *subnettest.Store, key string) {
			t.Helper()
			i := slices.IndexFunc(s.Entries(), func(e subnet.Entry) bool { return e.Key == key })
			if i < 0 {
				t.Fatalf("%s has ended", key)
			}
			e := s.Entries()[i]
			e.TTL = subnet.LeaseTTL
			if _, err := s.Client().Refresh(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
		for range 20 { // 172.7.21.0 has moved, 172.7.22.0 not
			renew(to, key21)
			renew(from, key22)
			move(true)
			time.Sleep(10 * time.Hour)
		}
		for _, s := range []*subnettest.Store{from, to} {
			var got []string
			for _, e := range s.Entries() {
				got = append(got, fmt.Sprint(e.Key, " ", e.Value, " ", e.TTL.Round(time.Hour)))
			}
			want := []string{"config {} 0s", key21 + " a 14h0m0s", key22 + " b 14h0m0s", "subnets/172.7.99.0-24 r 0s"}
			if !slices.Equal(got, want) {
				t.Errorf("in the end:\n%q\nwant\n%q", got, want)
			}
		}
	})
}

// TestTwoKeysOfOneSubnet: the older is the holder's before and after. What would be
// the later one in the new store is not made beside a dual-stack key.
func TestTwoKeysOfOneSubnet(t *testing.T) {
	const dual = "subnets/172.7.40.0-24&fc00:7:0:40::-64"
	for _, single := range []string{"subnets/172.7.40.0-24", "subnets/0.0.0.0-0&fc00:7:0:40::-64"} {
		for _, keys := range [][2]string{{single, dual}, {dual, single}} {
			from, to := subnettest.NewStore(), subnettest.NewStore()
			from.Set("config", "{}", 0)
			from.Set("subnets/172.7.1.0-24", "other", 0)
			from.Set(keys[0], "first", 0)
			from.Set(keys[1], "second", 0)
			old, _ := from.Client().List(t.Context())
			for range 2 {
				now, _ := to.Client().List(t.Context())
				if err := Apply(t.Context(), Plan(old, now, false), from.Client(), to.Client()); err != nil {
					t.Fatal(err)
				}
			}
			now, _ := to.Client().List(t.Context())
			if a, b := now.Find(keys[0]), now.Find(keys[1]); a.Key == "" || b.Key != "" && b.Created < a.Created || (b.Key == "") != (keys[1] == single) {
				t.Errorf("first %s: the new store has %+v", keys[0], now.Entries)
			}
			if left := Left(Plan(old, now, false)); len(left) > 0 {
				t.Errorf("first %s: left to do: %+v", keys[0], left)
			}
		}
	}
}

// TestTwoDualStackKeys: a host that has lost one of its subnets has a later key with the other.
func TestTwoDualStackKeys(t *testing.T) {
	const former, own = "subnets/172.7.40.0-24&fc00:7:0:40::-64", "subnets/172.7.40.0-24&fc00:7:0:41::-64"
	from, to := subnettest.NewStore(), subnettest.NewStore()
	for _, key := range []string{"config", former, own} {
		from.Set(key, "of "+key, 0)
	}
	old, _ := from.Client().List(t.Context())
	if err := Apply(t.Context(), Plan(old, subnet.Snapshot{}, false), from.Client(), to.Client()); err != nil {
		t.Fatal(err)
	}
	now, _ := to.Client().List(t.Context())
	if a, b := now.Find(former), now.Find(own); a.Key == "" || b.Key == "" || b.Created < a.Created {
		t.Errorf("the new store has %+v", now.Entries)
	}
}

// TestTakenThere: what a host has taken in the new store alone comes first there.
func TestTakenThere(t *testing.T) {
	const dual = "subnets/172.7.40.0-24&fc00:7:0:40::-64"
	for _, single := range []string{"subnets/172.7.40.0-24", "subnets/0.0.0.0-0&fc00:7:0:40::-64"} {
		from, to := subnettest.NewStore(), subnettest.NewStore()
		from.Set(single, "old", 0)
		to.Set("config", "{}", 0)
		to.Set(dual, "new", 0)
		old, _ := from.Client().List(t.Context())
		now, _ := to.Client().List(t.Context())
		for _, c := range Plan(old, now, false) {
			if c.Do != Keep || c.Key == single && c.Reason != "not copied: its subnet is leased by "+dual {
				t.Errorf("%+v", c)
			}
		}
	}
}

// TestBothFamilies moves a host that has begun to use IPv6, and has a new key beside its former one; once that is gone,
// it is left in the new store, where its host removes it. A host of IPv6 alone moves as it is.
func TestBothFamilies(t *testing.T) {
	const plain, dual, alone = "subnets/172.7.21.0-24", "subnets/172.7.21.0-24&fd00:7:0:21::-64", "subnets/0.0.0.0-0&fd00:7:0:22::-64"
	from, to := subnettest.NewStore(), subnettest.NewStore()
	for _, key := range []string{"config", plain, alone, dual} {
		from.Set(key, "of "+key, 0)
	}
	move := func(want ...string) {
		t.Helper()
		old, _ := from.Client().List(t.Context())
		now, _ := to.Client().List(t.Context())
		if err := Apply(t.Context(), Plan(old, now, false), from.Client(), to.Client()); err != nil {
			t.Fatal(err)
		}
		now, _ = to.Client().List(t.Context())
		var got []string
		for _, e := range now.Entries {
			if got = append(got, e.Key); e.Value != "of "+e.Key {
				t.Errorf("%s has %q", e.Key, e.Value)
			}
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) || now.Find(dual).Created < now.Find(plain).Created {
			t.Errorf("the new store has %+v, want %q", now.Entries, want)
		}
	}
	move("config", plain, alone, dual)
	from.Remove(plain)
	move("config", plain, alone, dual)
	to.Remove(plain)
	move("config", alone, dual)
}
