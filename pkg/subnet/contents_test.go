package subnet_test

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"flanneld/pkg/condition"
	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/subnettest"
)

var prefix21 = netip.MustParsePrefix("172.7.21.0/24")

func TestContents(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	c := subnet.Snapshot{Entries: []subnet.Entry{
		{Key: "config", Value: "{}", Modified: 3},
		{Key: "subnets/172.7.21.0-24", Value: lease21, TTL: time.Hour, Modified: 4},
		{Key: "subnets/172.7.22.0-24", Value: "{", Modified: 5},
		{Key: "subnets/elsewhere", Value: lease22, Modified: 6},
		{Key: "other", Value: "?", Modified: 7},
	}, Index: 7}.Read(now)
	if c.Config.Value != "{}" || c.Config.Modified != 3 {
		t.Errorf("config %+v", c.Config)
	}
	if l := c.Leases[0]; len(c.Leases) != 1 || l.Subnet != prefix21 || l.Attrs != attrs("10.4.7.21") || !l.Expires.Equal(now.Add(time.Hour)) {
		t.Errorf("leases %v", c.Leases)
	}
	if e := c.Entries["subnets/172.7.21.0-24"]; len(c.Entries) != 2 || e.Value != lease21 || c.Entries["subnets/172.7.22.0-24"].Modified != 5 {
		t.Errorf("entries %v", c.Entries)
	}
	if keys := slices.Sorted(maps.Keys(c.Malformed)); !slices.Equal(keys, []string{"subnets/172.7.22.0-24", "subnets/elsewhere"}) {
		t.Errorf("malformed %v", c.Malformed)
	}
	if none := (subnet.Snapshot{}).Read(now); none.Config.Key != "config" || none.Config.Modified != 0 {
		t.Errorf("an empty store: %+v", none)
	}
}

// How the store is: what /readyz and `flanneld status` tell of it.
func TestStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		h := start(t, store, nil)
		defer h.stop()
		settle()
		expect := func(moment string, current bool, reads, writes string) {
			t.Helper()
			if h.View().Current != current || !holds(h.cause(condition.EtcdUnreadable), reads) || !holds(h.cause(condition.EtcdUnwritable), writes) {
				t.Errorf("%s: current %t, %+v", moment, h.View().Current, h.wrong.List())
			}
		}
		expect("at first", true, "", "")
		h.client.Partition(true)
		time.Sleep(time.Second)
		settle()
		expect("cut off", false, "cannot be reached", "")
		h.client.Partition(false)
		time.Sleep(3 * time.Second)
		settle()
		expect("connected again", true, "", "")
		h.client.Inject(subnettest.Refuse("Put"))
		h.Claim(*claim("10.4.7.21"))
		settle()
		expect("writes are refused", true, "", "refused")
		h.client.Inject(nil)
		time.Sleep(3 * time.Second)
		settle()
		expect("writes work again", true, "", "")
		h.client.Inject(subnettest.Refuse("Watch"))
		h.client.Partition(true)
		settle()
		h.client.Partition(false)
		time.Sleep(3 * time.Second)
		settle()
		expect("lists work, watches do not", true, "", "")
		if cause := h.cause(condition.EtcdWatchBroken); !holds(cause, "refused") {
			t.Errorf("lists work, watches do not: %q", cause)
		}
		if h.cause(condition.LeaseContested) != "" {
			t.Error("contested, and nobody else is there")
		}
		h.client.Inject(nil)
		time.Sleep(25 * time.Second)
		settle()
		expect("watches work again", true, "", "")
		if cause := h.cause(condition.EtcdWatchBroken); cause != "" {
			t.Errorf("watches work again: %q", cause)
		}
		for range 2 { // once is no more than a question
			store.Set("subnets/"+strings.Replace(own(h), "/", "-", 1), lease21, time.Hour)
			settle()
		}
		if h.cause(condition.LeaseContested) == "" {
			t.Error("not contested, though somebody else wrote the lease")
		}
	})
}

// holds reports whether text contains part; nothing contains nothing.
func holds(text, part string) bool {
	return (text == "") == (part == "") && strings.Contains(text, part)
}
