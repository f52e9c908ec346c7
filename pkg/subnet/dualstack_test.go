package subnet_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"flanneld/pkg/inet"
	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/subnettest"
)

const (
	dual40    = "subnets/172.7.40.0-24&fc00:7:0:40::-64"
	dualLease = `{"PublicIP":"10.4.7.21","PublicIPv6":"fd00:4::21","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"4a:15:53:cd:6a:61"},"BackendV6Data":{"VNI":1,"VtepMAC":"8e:6b:3d:38:d7:c0"}}`
)

// TestSwapOfADualStackHost: a host keeps the key that flannel made, with what that
// says of IPv6. Nothing is ever without a lease, and flannel finds its own again.
func TestSwapOfADualStackHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set(dual40, dualLease, 2*time.Hour)
		created := entry(t, store, dual40).Created
		h := start(t, store, claim("10.4.7.21"))
		settle()
		want := `{"PublicIP":"10.4.7.21","PublicIPv6":"fd00:4::21","BackendType":"host-gw","BackendV6Data":{"VNI":1,"VtepMAC":"8e:6b:3d:38:d7:c0"}}`
		expect := func(moment string) {
			t.Helper()
			if e := entry(t, store, dual40); own(h) != "172.7.40.0/24" || e.Value != want || len(store.Entries()) != 1 {
				t.Errorf("%s: %s; store %v", moment, own(h), store.Entries())
			}
		}
		expect("at first")
		if e := entry(t, store, dual40); e.Created != created || e.TTL != subnet.LeaseTTL {
			t.Errorf("%+v, created anew", e)
		}
		time.Sleep(30 * time.Hour) // it is renewed
		synctest.Wait()
		expect("after a day")
		store.Remove(dual40) // by hand
		settle()
		expect("removed")
		store.Set(dual40, "{", 0)
		settle()
		expect("spoiled")
		h.stop()
		h = start(t, store, claim("10.4.7.21"), previous("172.7.40.0/24"), func(o *subnet.Options) { o.Resumed = true })
		defer h.stop()
		settle()
		expect("restarted")
	})
}

// TestDualStackKeys: whose IPv4 half is taken, and whose is not.
func TestDualStackKeys(t *testing.T) {
	const six = "subnets/0.0.0.0-0&fc00:7:0:1d::-64"
	small := mustConfig(`{"Network":"172.7.40.0/24","SubnetLen":26,"SubnetMin":"172.7.40.0","Backend":{"Type":"host-gw"}}`)
	for _, tt := range []struct {
		name   string
		config subnet.Config
		store  []string // keys and values
		want   string
		left   []string // keys that are there in the end, but for ours
	}{
		{"one of four is left", small, []string{
			"subnets/172.7.40.0-26&fc00:7:0:40::-64", lease22, "subnets/172.7.40.64-26&fc00:7:0:41::-64", "{", // a spoiled one is somebody's too
			"subnets/172.7.40.128-27&fc00:7:0:42::-64", lease22, six, `{"PublicIP":"0.0.0.0","PublicIPv6":"fd00:4::22"}`}, "172.7.40.192/26", nil},
		{"none is left", small, []string{"subnets/172.7.40.0-25&fc00:7:0:40::-64", lease22, "subnets/172.7.40.128-25", lease22}, "none", nil},
		{"the older of two keys is another host's", hostGW, []string{dual40, lease22, "subnets/172.7.40.0-24", lease21}, "", []string{dual40}},
		{"the older of two keys is ours", hostGW, []string{"subnets/172.7.40.0-24", lease21, dual40, lease22}, "172.7.40.0/24", []string{dual40}},
		{"both keys are ours", hostGW, []string{"subnets/172.7.40.0-24", lease21, dual40, lease21}, "172.7.40.0/24", []string{dual40}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := subnettest.NewStore()
				for i := 0; i < len(tt.store); i += 2 {
					store.Set(tt.store[i], tt.store[i+1], subnet.LeaseTTL)
				}
				h := start(t, store, &subnet.Claim{Config: tt.config, Attrs: attrs("10.4.7.21")})
				defer h.stop()
				settle()
				got := own(h)
				if tt.want != "" && got != tt.want || tt.want == "" && (got == "none" || got == "172.7.40.0/24") {
					t.Errorf("leased %s, want %s", got, tt.want)
				}
				for _, key := range tt.left {
					entry(t, store, key)
				}
				for key := range h.View().Malformed {
					if key == six {
						t.Errorf("%s is said to be wrong", key)
					}
				}
			})
		})
	}
}

// TestLaterOfTwo: flannel was faster by a moment. A host whose plain key came second
// gives the subnet up; where it came first it stays, and nothing changes any more.
func TestLaterOfTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		h := start(t, store, claim("10.4.7.21"), previous("172.7.40.0/24"))
		defer h.stop()
		var late bool
		h.client.Inject(func(op string) subnettest.Fault {
			if op == "Put" && !late {
				late = true
				store.Set(dual40, lease22, subnet.LeaseTTL)
			}
			return subnettest.None
		})
		h.Claim(*claim("10.4.7.21"))
		settle()
		time.Sleep(time.Minute)
		synctest.Wait()
		first := own(h)
		if !late || first == "172.7.40.0/24" || first == "none" {
			t.Fatalf("holds %s; store %v", first, store.Entries())
		}
		if len(store.Entries()) != 2 {
			t.Errorf("store %v", store.Entries())
		}
		puts := h.client.Calls("Put")
		store.Set(subnet.Key(h.View().Own.Subnet)+"&fc00:7:0:77::-64", lease22, subnet.LeaseTTL)
		time.Sleep(time.Hour)
		synctest.Wait()
		if own(h) != first || h.client.Calls("Put") != puts {
			t.Errorf("%s became %s by a key that came later; %d writes", first, own(h), h.client.Calls("Put")-puts)
		}
	})
}

// flannel takes a subnet as flannel does: it lists, chooses, and creates its own key's
// text if that is absent.
func flannel(ctx context.Context, c *subnettest.Client, config subnet.Config, n int, think time.Duration) {
	s, err := c.List(ctx)
	if err != nil {
		return
	}
	var taken []netip.Prefix
	for _, e := range s.Entries {
		if s, err := subnet.ParseKey(e.Key); err == nil {
			taken = append(taken, s.All()...)
		}
	}
	time.Sleep(think)
	var chosen []netip.Prefix
	for _, f := range config.Families() {
		of, _ := config.For(f)
		free := of.Free(slices.DeleteFunc(slices.Clone(taken), func(p netip.Prefix) bool { return inet.Of(p.Addr()) != f }), 3)
		if len(free) == 0 {
			return
		}
		chosen = append(chosen, free[n%len(free)])
	}
	key := subnet.SubnetsOf(chosen...).Key()
	if !strings.Contains(key, subnet.DualStack) {
		key = fmt.Sprintf("%s&fc00:9:0:%x::-64", key, n)
	}
	value := attrsOf(config, fmt.Sprintf("10.4.7.%d", 100+n)).Marshal()
	_, _ = c.Put(ctx, subnet.Entry{Key: key, Value: value, TTL: subnet.LeaseTTL})
}

// attrsOf is what a host says of itself under a config.
func attrsOf(c subnet.Config, ip string) subnet.Attrs {
	six := netip.MustParseAddr("fd00:4::" + ip[strings.LastIndex(ip, ".")+1:])
	a := attrs(ip)
	switch c.Families()[0] {
	case inet.IPv6:
		a.PublicIP = six
	case inet.IPv4:
		if len(c.Families()) > 1 {
			a.IPv6.PublicIP = six
		}
	}
	return a
}

var inFamilies = map[string]subnet.Config{
	"IPv4": mustConfig(`{"Network":"10.1.0.0/24","SubnetLen":28}`),
	"IPv6": mustConfig(`{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fc00:7::/60"}`),
	"both": mustConfig(`{"Network":"10.1.0.0/24","SubnetLen":28,"EnableIPv6":true,"IPv6Network":"fc00:7::/60"}`),
}

// TestNoSubnetTwice: allocators of ours race with each other and with flannel's, with
// both kinds of keys. No two of ours ever work with one subnet; in the end none of ours
// holds what another key named first, and flannel's keys are as it wrote them.
func TestNoSubnetTwice(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		config := inFamilies[rapid.SampledFrom([]string{"IPv4", "IPv6", "both"}).Draw(rt, "families")]
		hosts, others := rapid.IntRange(2, 4).Draw(rt, "hosts"), rapid.IntRange(1, 4).Draw(rt, "flannels")
		before := rapid.SliceOfN(rapid.IntRange(0, 8), 0, 3).Draw(rt, "dual-stack keys before")
		mine := rapid.Bool().Draw(rt, "the first of them is the first host's")
		delay := func(what string) time.Duration {
			return time.Duration(rapid.IntRange(0, 40).Draw(rt, what)) * time.Millisecond
		}
		var begins, latencies, flannels, thinks []time.Duration
		for range hosts {
			begins, latencies = append(begins, delay("begins")), append(latencies, delay("latency"))
		}
		for range others {
			flannels, thinks = append(flannels, delay("flannel begins")), append(thinks, delay("thinks"))
		}
		violation := ""
		synctest.Test(t, func(t *testing.T) {
			store := subnettest.NewStore()
			for i, n := range before {
				ip := fmt.Sprintf("10.4.7.%d", 50+i)
				if mine && i == 0 {
					ip = "10.4.7.21"
				}
				store.Set(fmt.Sprintf("subnets/10.1.0.%d-28&fc00:7:0:%x::-64", 16*n, i), attrsOf(inFamilies["both"], ip).Marshal(), subnet.LeaseTTL)
			}
			var all []*host
			for i := range hosts {
				h := start(t, store, nil)
				defer h.stop()
				h.client.Inject(func(string) subnettest.Fault { time.Sleep(latencies[i]); return subnettest.None })
				all = append(all, h)
				go func() {
					time.Sleep(begins[i])
					h.Claim(subnet.Claim{Config: config, Attrs: attrsOf(config, fmt.Sprintf("10.4.7.%d", 21+i))})
				}()
			}
			for i := range others {
				go func() {
					time.Sleep(flannels[i])
					flannel(t.Context(), store.Client(), config, i, thinks[i])
				}()
			}
			for range 300 {
				time.Sleep(10 * time.Millisecond)
				synctest.Wait()
				for i, a := range all {
					for _, b := range all[:i] {
						if x, y := a.View().Own, b.View().Own; overlap(x, y) && violation == "" {
							violation = fmt.Sprintf("two hosts work with %v and %v", x, y)
						}
					}
				}
			}
			time.Sleep(20 * time.Second) // who loses a half again and again lets each key become known first
			synctest.Wait()
			entries := store.Entries()
			for i, h := range all {
				held := h.View().Own
				at := slices.IndexFunc(entries, func(e subnet.Entry) bool { return e.Key == held.Key })
				if at < 0 {
					violation = fmt.Sprintf("host %d holds %+v; store %v", i, held, entries)
					continue
				}
				four, _ := held.For(inet.IPv4)
				later := slices.ContainsFunc(entries, func(e subnet.Entry) bool {
					s, _ := subnet.ParseKey(e.Key)
					return e.Created > entries[at].Created && s.Of(inet.IPv4).Overlaps(four.Subnet)
				})
				// A new key would come after the later one, and lose the IPv4 subnet.
				if lacks := config.Lacking(held.Subnets()); len(lacks) > 0 && !later {
					violation = fmt.Sprintf("host %d holds %+v, without %v; store %v", i, held, lacks, entries)
				}
				for _, e := range entries {
					s, _ := subnet.ParseKey(e.Key)
					other := subnet.Lease{Subnet: s.Of(inet.IPv4), IPv6Subnet: s.Of(inet.IPv6)}
					if e.Key != held.Key && overlap(other, held) && e.Created < entries[at].Created {
						violation = fmt.Sprintf("host %d works with %s, though %s came first", i, held.Key, e.Key)
					}
				}
			}
			keys := slices.DeleteFunc(entries, func(e subnet.Entry) bool { return !strings.Contains(e.Key, "&") })
			if len(keys) < len(slices.Compact(slices.Sorted(slices.Values(before)))) {
				violation = fmt.Sprintf("dual-stack keys are gone: %v", keys)
			}
		})
		if violation != "" {
			rt.Fatal(violation)
		}
	})
}

// overlap reports whether two leases have an address in common.
func overlap(a, b subnet.Lease) bool {
	for _, p := range a.Subnets().All() {
		if slices.ContainsFunc(b.Subnets().All(), p.Overlaps) {
			return true
		}
	}
	return false
}

// TestFamilyComes: the config gets IPv6 under a host that works with IPv4, and loses it again.
// The IPv4 subnet stays, is leased at each moment, and flannel's hosts, which take its route
// away with the key that goes, hear of the one that stays after that.
func TestFamilyComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		before, both := inFamilies["IPv4"], inFamilies["both"]
		h := start(t, store, &subnet.Claim{Config: before, Attrs: attrsOf(before, "10.4.7.21")})
		defer h.stop()
		time.Sleep(time.Minute)
		synctest.Wait()
		four := h.View().Own.Subnet
		plain := subnet.Key(four)
		var told []string
		watching := watchKeys(t, store, &told)
		h.Claim(subnet.Claim{Config: both, Attrs: attrsOf(both, "10.4.7.21")})
		settle()
		dual := h.View().Own
		value := attrsOf(both, "10.4.7.21").Marshal()
		if dual.Subnet != four || len(both.Lacking(dual.Subnets())) > 0 || entry(t, store, dual.Key).Value != value || len(store.Entries()) != 1 {
			t.Fatalf("holds %+v; store %v", dual, store.Entries())
		}
		watching()
		if want := []string{"deleted " + plain, "set " + dual.Key}; !slices.Equal(told, want) {
			t.Errorf("flannel hears %v, want %v", told, want)
		}
		h.Claim(subnet.Claim{Config: before, Attrs: attrsOf(before, "10.4.7.21")})
		settle()
		if now := h.View().Own; now.Key != dual.Key || now.Subnet != four || now.IPv6Subnet.IsValid() || entry(t, store, dual.Key).Value != value {
			t.Errorf("without IPv6 it holds %+v; store %v", now, store.Entries())
		}
		time.Sleep(30 * time.Hour)
		h.Claim(subnet.Claim{Config: both, Attrs: attrsOf(both, "10.4.7.21")})
		settle()
		if now := h.View().Own; now.Subnets() != dual.Subnets() || len(store.Entries()) != 1 {
			t.Errorf("with IPv6 once more it holds %+v; store %v", now, store.Entries())
		}
	})
}

// watchKeys notes what becomes of keys, until what it returns is called.
func watchKeys(t *testing.T, store *subnettest.Store, told *[]string) (end func()) {
	c := store.Client()
	s, err := c.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var ended sync.WaitGroup
	ended.Go(func() {
		_ = c.Watch(ctx, s.Index, func(events []subnet.Event) {
			for _, e := range events {
				what := "set "
				if e.Deleted {
					what = "deleted "
				}
				*told = append(*told, what+e.Key)
			}
		})
	})
	return func() { synctest.Wait(); cancel(); ended.Wait() }
}

// TestIPv6IsTaken: another host was faster with the IPv6 subnet alone. The IPv4 subnet stays.
func TestIPv6IsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		both := inFamilies["both"]
		store.Set("subnets/10.1.0.32-28&fc00:7:0:3::-64", attrsOf(both, "10.4.7.22").Marshal(), subnet.LeaseTTL)
		store.Set("subnets/10.1.0.16-28&fc00:7:0:3::-64", attrsOf(both, "10.4.7.21").Marshal(), subnet.LeaseTTL)
		h := start(t, store, &subnet.Claim{Config: both, Attrs: attrsOf(both, "10.4.7.21")})
		defer h.stop()
		settle()
		own := h.View().Own
		if own.Subnet != netip.MustParsePrefix("10.1.0.16/28") || own.IPv6Subnet == netip.MustParsePrefix("fc00:7:0:3::/64") ||
			len(both.Lacking(own.Subnets())) > 0 || len(store.Entries()) != 2 {
			t.Errorf("holds %+v; store %v", own, store.Entries())
		}
	})
}

// TestReservationOfIPv4: a reservation of one family stays an operator's key beside the lease of both.
func TestReservationOfIPv4(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		both := inFamilies["both"]
		claim := &subnet.Claim{Config: both, Attrs: attrsOf(both, "10.4.7.21")}
		store.Set("subnets/10.1.0.48-28", `{"PublicIP":"10.4.7.21"}`, 0)
		h := start(t, store, claim)
		settle()
		own := h.View().Own
		h.stop()
		if own.Subnet != netip.MustParsePrefix("10.1.0.48/28") || len(both.Lacking(own.Subnets())) > 0 || len(store.Entries()) != 2 {
			t.Fatalf("holds %+v; store %v", own, store.Entries())
		}
		h = start(t, store, claim)
		defer h.stop()
		settle()
		view := h.View()
		if view.Own.Subnets() != own.Subnets() || len(store.Entries()) != 2 || view.Awaits != "" {
			t.Errorf("after a restart it holds %+v and waits for %q; store %v", view.Own, view.Awaits, store.Entries())
		}
		c, _ := both.For(inet.IPv4)
		if peers, rejected := subnet.Peers(c, view.Own, view.Leases, nil, nil); len(peers)+len(rejected) > 0 {
			t.Errorf("peers %v, rejected %v", peers, rejected)
		}
	})
}

// TestReservationOfIPv6: a host that is given another IPv6 subnet by an operator keeps its IPv4
// subnet when it starts anew.
func TestReservationOfIPv6(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		both := inFamilies["both"]
		claim := &subnet.Claim{Config: both, Attrs: attrsOf(both, "10.4.7.21")}
		h := start(t, store, claim)
		settle()
		before := h.View().Own
		h.stop()
		six := netip.MustParsePrefix("fc00:7:0:9::/64")
		if before.IPv6Subnet == six {
			six = netip.MustParsePrefix("fc00:7:0:a::/64")
		}
		store.Set(subnet.Key(six), `{"PublicIP":"0.0.0.0","PublicIPv6":"fd00:4::21"}`, 0)
		file := func(o *subnet.Options) { o.Previous, o.Resumed = before.Subnets(), true }
		h = start(t, store, claim, file)
		defer h.stop()
		settle()
		if own := h.View().Own; own.Subnet != before.Subnet || own.IPv6Subnet != six || len(store.Entries()) != 2 {
			t.Errorf("holds %+v in place of %+v; store %v", own, before, store.Entries())
		}
	})
}

// TestFormerNetwork: what a host held in another Network goes once it holds a subnet of
// the new one. Reservations stay, and what is anybody else's.
func TestFormerNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		for key, value := range map[string]string{
			"subnets/10.9.8.0-24": lease21, "subnets/10.9.9.0-24&fc00:7::-64": lease21, "subnets/10.9.10.0-24": lease22, "subnets/10.9.11.0-24": "{",
			"subnets/172.7.33.0-25": lease21,
		} {
			store.Set(key, value, subnet.LeaseTTL)
		}
		store.Set("subnets/10.9.12.0-24", lease21, 0)
		h := start(t, store, claim("10.4.7.21"))
		h.client.Inject(func(op string) subnettest.Fault {
			if op == "Delete" && own(h) == "none" {
				t.Error("deleted before another one is held")
			}
			return subnettest.None
		})
		defer h.stop()
		settle()
		time.Sleep(time.Minute)
		synctest.Wait()
		var keys []string
		for _, e := range store.Entries() {
			if e.Key != h.View().Own.Key {
				keys = append(keys, e.Key)
			}
		}
		want := []string{"subnets/10.9.10.0-24", "subnets/10.9.11.0-24", "subnets/10.9.12.0-24", "subnets/172.7.33.0-25"}
		if own(h) == "none" || !slices.Equal(keys, want) {
			t.Errorf("holds %s; left %v", own(h), keys)
		}
		// One that comes back is left alone: somebody is at work there.
		store.Set("subnets/10.9.8.0-24", lease21, subnet.LeaseTTL)
		time.Sleep(time.Hour)
		synctest.Wait()
		entry(t, store, "subnets/10.9.8.0-24")
		if h.client.Calls("Delete") != 2 {
			t.Errorf("%d deletes", h.client.Calls("Delete"))
		}
	})
}

// TestFormerNetworkCannotBeRemoved: the lease that is held is none the worse for it.
func TestFormerNetworkCannotBeRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("subnets/10.9.8.0-24", lease21, subnet.LeaseTTL)
		h := start(t, store, claim("10.4.7.21"))
		defer h.stop()
		h.client.Inject(subnettest.Refuse("Delete"))
		time.Sleep(time.Minute)
		synctest.Wait()
		if own(h) == "none" || len(h.wrong.List()) != 0 || h.client.Calls("Delete") != 1 {
			t.Errorf("holds %s, %d deletes, %+v", own(h), h.client.Calls("Delete"), h.wrong.List())
		}
	})
}

// TestFamilyComesBesideALaterLease: another key names this host's IPv4 subnet, and came later. A new
// key of ours would come after that, and the host would have to leave the subnet that it works with.
func TestFamilyComesBesideALaterLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		before, both := inFamilies["IPv4"], inFamilies["both"]
		h := start(t, store, &subnet.Claim{Config: before, Attrs: attrsOf(before, "10.4.7.21")})
		defer h.stop()
		settle()
		four := h.View().Own.Subnet
		later := subnet.SubnetsOf(four, netip.MustParsePrefix("fc00:7:0:5::/64")).Key()
		store.Set(later, attrsOf(both, "10.4.7.22").Marshal(), subnet.LeaseTTL)
		settle()
		h.Claim(subnet.Claim{Config: both, Attrs: attrsOf(both, "10.4.7.21")})
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if own := h.View().Own; own.Subnet != four {
			t.Fatalf("%v became %v; store %v", four, own.Subnets(), store.Entries())
		}
		store.Remove(later)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if own := h.View().Own; own.Subnet != four || len(both.Lacking(own.Subnets())) > 0 || len(store.Entries()) != 1 {
			t.Errorf("without the other one it holds %+v; store %v", own, store.Entries())
		}
	})
}

// TestKeyOfBeforeComesBack: a store that is put back to before the family came has the plain key
// again. It must not end beside the one that takes its place: flannel's hosts take the subnet's
// route away with it.
func TestKeyOfBeforeComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		before, both := inFamilies["IPv4"], inFamilies["both"]
		h := start(t, store, &subnet.Claim{Config: before, Attrs: attrsOf(before, "10.4.7.21")})
		defer h.stop()
		settle()
		time.Sleep(time.Minute) // a key that was just made stays for a second
		plain := store.Entries()[0]
		h.Claim(subnet.Claim{Config: both, Attrs: attrsOf(both, "10.4.7.21")})
		settle()
		own := h.View().Own
		store.Remove(own.Key)
		store.Set(plain.Key, plain.Value, subnet.LeaseTTL)
		time.Sleep(time.Minute)
		synctest.Wait()
		if now := h.View().Own; now.Key != own.Key || len(store.Entries()) != 1 {
			t.Errorf("holds %+v; store %v", now, store.Entries())
		}
	})
}

// TestOldKeyIsWrittenMeanwhile: somebody writes the key that is to go. The new one is as free as before.
func TestOldKeyIsWrittenMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		both := inFamilies["both"]
		value := attrs("10.4.7.21").Marshal()
		store.Set("subnets/10.1.0.48-28", value, subnet.LeaseTTL)
		file := subnet.SubnetsOf(netip.MustParsePrefix("10.1.0.48/28"), netip.MustParsePrefix("fc00:7:0:9::/64"))
		h := start(t, store, nil, func(o *subnet.Options) { o.Previous = file })
		defer h.stop()
		written := false
		h.client.Inject(func(op string) subnettest.Fault {
			if op == "Replace" && !written {
				written = true
				store.Set("subnets/10.1.0.48-28", value, subnet.LeaseTTL)
			}
			return subnettest.None
		})
		h.Claim(subnet.Claim{Config: both, Attrs: attrsOf(both, "10.4.7.21")})
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if own := h.View().Own; !written || own.Subnets() != file || len(store.Entries()) != 1 {
			t.Errorf("holds %v; store %v", own.Subnets(), store.Entries())
		}
	})
}

// byV2 replaces as etcd's v2 API does, which has no transactions.
type byV2 struct {
	*subnettest.Client
	between func()
}

func (c byV2) Replace(ctx context.Context, old, e subnet.Entry) (subnet.Entry, error) {
	stored, err := c.Put(ctx, e)
	if err != nil {
		return stored, err
	}
	c.between()
	if err := c.Delete(ctx, old); err != nil {
		return stored, err
	}
	e.Modified = stored.Modified
	return c.Put(ctx, e)
}

// TestOldKeyIsWrittenMeanwhileByV2: both keys are there then. One stays, whatever was written.
func TestOldKeyIsWrittenMeanwhileByV2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		both := inFamilies["both"]
		value := attrs("10.4.7.21").Marshal()
		store.Set("subnets/10.1.0.48-28", value, subnet.LeaseTTL)
		client := store.Client()
		client.Inject(func(op string) subnettest.Fault {
			if op == "Watch" { // events come a moment later than replies
				time.Sleep(5 * time.Millisecond)
			}
			return subnettest.None
		})
		written := false
		m := subnet.NewManager(byV2{client, func() {
			if !written {
				written = true
				store.Set("subnets/10.1.0.48-28", value, subnet.LeaseTTL)
			}
		}}, subnet.Options{RenewMargin: time.Hour})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- m.Run(ctx) }()
		defer func() { cancel(); <-done }()
		m.Claim(subnet.Claim{Config: both, Attrs: attrsOf(both, "10.4.7.21")})
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if own := m.View().Own; !written || len(both.Lacking(own.Subnets())) > 0 || len(store.Entries()) != 1 {
			t.Errorf("holds %v; store %v", own.Subnets(), store.Entries())
		}
	})
}

// TestTwoKeysOfOneIPv4Subnet: both are this host's, with different IPv6 subnets. The one that is not held
// goes: were it left to end, flannel's hosts would take the IPv4 subnet's route away a day later.
func TestTwoKeysOfOneIPv4Subnet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		both := inFamilies["both"]
		value := attrsOf(both, "10.4.7.21").Marshal()
		store.Set("subnets/10.1.0.48-28&fc00:7:0:8::-64", value, subnet.LeaseTTL)
		store.Set("subnets/10.1.0.48-28&fc00:7:0:9::-64", value, subnet.LeaseTTL)
		h := start(t, store, &subnet.Claim{Config: both, Attrs: attrsOf(both, "10.4.7.21")})
		defer h.stop()
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if own := h.View().Own; len(both.Lacking(own.Subnets())) > 0 || len(store.Entries()) != 1 {
			t.Errorf("holds %v; store %v", own.Subnets(), store.Entries())
		}
	})
}

// TestIPv4ComesAfterIPv6: a host whose IPv4 address comes late works with IPv6 alone at first. It has
// its IPv4 subnet still.
func TestIPv4ComesAfterIPv6(t *testing.T) {
	for _, ttl := range []time.Duration{subnet.LeaseTTL, 0} { // or a reservation
		synctest.Test(t, func(t *testing.T) {
			store := subnettest.NewStore()
			six, both := inFamilies["both"].Only([]inet.Family{inet.IPv6}), inFamilies["both"]
			store.Set("subnets/10.1.0.48-28", attrs("10.4.7.21").Marshal(), ttl)
			h := start(t, store, &subnet.Claim{Config: six, Attrs: attrsOf(six, "10.4.7.21")}, previous("10.1.0.48/28"))
			defer h.stop()
			settle()
			first := h.View().Own
			h.Claim(subnet.Claim{Config: both, Attrs: attrsOf(both, "10.4.7.21")})
			time.Sleep(5 * time.Minute)
			synctest.Wait()
			want := subnet.SubnetsOf(netip.MustParsePrefix("10.1.0.48/28"), first.Subnet)
			if own := h.View().Own; own.Subnets() != want || ttl > 0 && len(store.Entries()) != 1 {
				t.Errorf("%v became %v; store %v", first.Subnets(), own.Subnets(), store.Entries())
			}
		})
	}
}

// TestCopyByIPv6Alone: where containers use IPv6 alone, dual-stack keys may be left. A copy asks once.
func TestCopyByIPv6Alone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		six := inFamilies["IPv6"]
		value := `{"PublicIP":"10.4.7.21","PublicIPv6":"fd00:4::21","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"4a:15:53:cd:6a:61"},"BackendV6Data":{"VNI":1,"VtepMAC":"8e:6b:3d:38:d7:c0"}}`
		store.Set("subnets/10.1.0.48-28&fc00:7:0:8::-64", value, subnet.LeaseTTL)
		of := func(ip, mac string) subnet.Attrs {
			return subnet.Attrs{PublicIP: netip.MustParseAddr(ip), BackendType: "vxlan", BackendData: `{"VNI":1,"VtepMAC":"` + mac + `"}`}
		}
		file := previous("fc00:7:0:8::/64")
		h := start(t, store, &subnet.Claim{Config: six, Attrs: of("fd00:4::21", "8e:6b:3d:38:d7:c0")}, file)
		defer h.stop()
		settle()
		mac := subnet.Self{VTEPs: []string{"8e:6b:3d:38:d7:c0"}}
		copied := start(t, store, &subnet.Claim{Config: six, Self: mac, Attrs: of("fd00:4::22", "8e:6b:3d:38:d7:c1")}, file)
		defer copied.stop()
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		a, b := h.View().Own, copied.View().Own
		if !b.Subnet.IsValid() || a.Subnet == b.Subnet || copied.client.Calls("Put") != 2 || len(h.wrong.List()) > 0 {
			t.Errorf("the host has %v, its copy %v, after %d writes; wrong are %v",
				a.Subnets(), b.Subnets(), copied.client.Calls("Put"), h.wrong.List())
		}
	})
}

// TestFamilyComesAndGoesUnderFaults: whatever becomes of the writes, and however often the config
// changes, no host ever leaves its IPv4 subnet, no two work with one, and each has one key in the end.
func TestFamilyComesAndGoesUnderFaults(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		hosts := rapid.IntRange(1, 3).Draw(rt, "hosts")
		v2 := rapid.Bool().Draw(rt, "by v2")
		type change struct {
			host   int
			family string
			wait   time.Duration
		}
		var changes []change
		for range rapid.IntRange(1, 6).Draw(rt, "changes") {
			changes = append(changes, change{rapid.IntRange(0, hosts-1).Draw(rt, "host"),
				rapid.SampledFrom([]string{"IPv4", "both", "restart", "remove", "rewrite"}).Draw(rt, "family"),
				time.Duration(rapid.SampledFrom([]int{0, 1, 20, 500, 5000}).Draw(rt, "wait")) * time.Millisecond})
		}
		faults := rapid.SliceOfN(rapid.SampledFrom([]subnettest.Fault{subnettest.None, subnettest.None, subnettest.Lost, subnettest.Refused}), 0, 12).Draw(rt, "faults")
		violation := ""
		synctest.Test(t, func(t *testing.T) {
			store := subnettest.NewStore()
			type running struct {
				*subnet.Manager
				stop func()
				four netip.Prefix
				last string
			}
			all := make([]*running, hosts)
			var mu sync.Mutex // of faults
			begin := func(i int) {
				client := store.Client()
				client.Inject(func(op string) subnettest.Fault {
					if op == "Watch" || op == "List" || op == "Resume" {
						return subnettest.None
					}
					time.Sleep(3 * time.Millisecond)
					mu.Lock()
					defer mu.Unlock()
					if len(faults) == 0 {
						return subnettest.None
					}
					f := faults[0]
					faults = faults[1:]
					return f
				})
				var r subnet.Registry = client
				if v2 {
					r = byV2{client, func() {}}
				}
				o := subnet.Options{RenewMargin: time.Hour}
				if all[i] == nil {
					all[i] = &running{last: "IPv4"}
				} else {
					o.Previous = subnet.SubnetsOf(all[i].four)
				}
				ctx, cancel := context.WithCancel(context.Background())
				m, done := subnet.NewManager(r, o), make(chan error, 1)
				go func() { done <- m.Run(ctx) }()
				all[i].Manager, all[i].stop = m, func() { cancel(); <-done }
			}
			say := func(i int) {
				c := inFamilies[all[i].last]
				all[i].Claim(subnet.Claim{Config: c, Attrs: attrsOf(c, fmt.Sprintf("10.4.7.%d", 21+i))})
			}
			look := func() {
				for i, h := range all {
					own := h.View().Own
					four, has := own.For(inet.IPv4)
					switch {
					case !has && own.Subnet.IsValid():
						violation = "IPv6 alone"
					case has && !h.four.IsValid():
						h.four = four.Subnet
					case has && h.four != four.Subnet:
						violation = fmt.Sprintf("%v became %v; store %v", h.four, four.Subnet, store.Entries())
					}
					for _, o := range all[:i] {
						if overlap(own, o.View().Own) {
							violation = fmt.Sprintf("%v twice; store %v", own.Subnets(), store.Entries())
						}
					}
				}
			}
			sleep := func(d time.Duration) {
				for end := time.Now().Add(d); ; {
					synctest.Wait()
					look()
					if !time.Now().Before(end) {
						return
					}
					time.Sleep(min(time.Millisecond*7, time.Until(end)))
				}
			}
			for i := range all {
				begin(i)
				defer func() { all[i].stop() }()
				say(i)
			}
			sleep(5 * time.Second)
			for _, c := range changes {
				h := all[c.host]
				switch c.family {
				case "restart":
					h.stop()
					begin(c.host)
					say(c.host)
				case "remove":
					store.Remove(h.View().Own.Key)
				case "rewrite":
					for _, e := range store.Entries() {
						if e.Key == h.View().Own.Key {
							store.Set(e.Key, e.Value, subnet.LeaseTTL)
						}
					}
				default:
					h.last = c.family
					say(c.host)
				}
				sleep(c.wait)
			}
			mu.Lock()
			faults = nil
			mu.Unlock()
			for range 30 {
				time.Sleep(20 * time.Second)
				synctest.Wait()
				look()
			}
			for _, h := range all {
				if own := h.View().Own; len(inFamilies[h.last].Lacking(own.Subnets())) > 0 {
					violation = fmt.Sprintf("holds %+v under %s; store %v", own, h.last, store.Entries())
				}
			}
			if len(store.Entries()) != hosts {
				violation = fmt.Sprintf("%d hosts; store %v", hosts, store.Entries())
			}
		})
		if violation != "" {
			rt.Fatal(violation)
		}
	})
}

// TestStorePutBack: a store is put back to what it was before IPv6 came, twice. The host's own key is made anew beside
// the plain one that had gone, and that goes again: where it ended by itself, flannel's hosts would take the subnet away.
func TestStorePutBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		h := start(t, store, claim("10.4.7.21"), previous("172.7.40.0/24"))
		defer h.stop()
		time.Sleep(time.Minute)
		synctest.Wait()
		const plain = "subnets/172.7.40.0-24"
		value := entry(t, store, plain).Value
		config := mustConfig(`{"Network":"172.7.0.0/16","EnableIPv6":true,"IPv6Network":"fc00:7::/48"}`)
		h.Claim(subnet.Claim{Config: config, Attrs: attrsOf(config, "10.4.7.21")})
		settle()
		for range 3 {
			all := store.Entries()
			if len(all) != 1 || !strings.HasPrefix(all[0].Key, plain+"&") {
				t.Fatalf("the store has %v", all)
			}
			store.Set(plain, value, subnet.LeaseTTL)
			store.Remove(all[0].Key)
			time.Sleep(time.Minute)
			synctest.Wait()
		}
	})
}
