package subnet_test

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"flanneld/pkg/condition"
	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/subnettest"
)

var hostGW = mustConfig(`{"Network":"172.7.0.0/16","Backend":{"Type":"host-gw"}}`)

func mustConfig(raw string) subnet.Config {
	c, err := subnet.ParseConfig(raw)
	if err != nil {
		panic(err)
	}
	return c
}

func attrs(publicIP string) subnet.Attrs {
	return subnet.Attrs{PublicIP: netip.MustParseAddr(publicIP), BackendType: "host-gw"}
}

// host is a Manager with its access to the store, inside a synctest bubble.
type host struct {
	*subnet.Manager
	client *subnettest.Client
	wrong  *condition.Set
	stop   func()
}

// cause is that of a condition, or what it says itself; empty: there is none.
func (h *host) cause(code condition.Code) string {
	c, _ := h.wrong.Find(code, "")
	return cmp.Or(c.Cause, c.Message)
}

type hostOption func(*subnet.Options)

func previous(s string) hostOption {
	return func(o *subnet.Options) { o.Previous = subnet.SubnetsOf(netip.MustParsePrefix(s)) }
}

func start(t testing.TB, store *subnettest.Store, claim *subnet.Claim, options ...hostOption) *host {
	o := subnet.Options{RenewMargin: time.Hour, Conditions: &condition.Set{}}
	for _, opt := range options {
		opt(&o)
	}
	client := store.Client()
	h := &host{Manager: subnet.NewManager(client, o), client: client, wrong: o.Conditions}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	h.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run ended with %v", err)
		}
	}
	if claim != nil {
		h.Claim(*claim)
	}
	return h
}

func claim(publicIP string) *subnet.Claim {
	return &subnet.Claim{Config: hostGW, Attrs: attrs(publicIP)}
}

// settle lets everything that is due now happen.
func settle() {
	time.Sleep(100 * time.Millisecond)
	synctest.Wait()
}

func own(h *host) string {
	if l := h.View().Own; l.Subnet.IsValid() {
		return l.Subnet.String()
	}
	return "none"
}

func entry(t testing.TB, s *subnettest.Store, key string) subnet.Entry {
	t.Helper()
	for _, e := range s.Entries() {
		if e.Key == key {
			return e
		}
	}
	t.Fatalf("no key %s in %v", key, s.Entries())
	return subnet.Entry{}
}

const lease21 = `{"PublicIP":"10.4.7.21","BackendType":"host-gw"}`
const lease22 = `{"PublicIP":"10.4.7.22","BackendType":"host-gw"}`

func TestAcquire(t *testing.T) {
	for _, tt := range []struct {
		name     string
		store    map[string]string
		previous string
		want     string // "" : any of the first hundred
		goes     bool   // what is in the store
	}{
		{name: "empty store, no subnet file"},
		{name: "the subnet file's subnet where it is free", previous: "172.7.21.0/24", want: "172.7.21.0/24"},
		{name: "the lease with our public IP", store: map[string]string{"subnets/172.7.33.0-24": lease21}, want: "172.7.33.0/24"},
		{name: "the lease with our public IP before the subnet file", store: map[string]string{"subnets/172.7.33.0-24": lease21}, previous: "172.7.21.0/24", want: "172.7.33.0/24"},
		{name: "of several leases with our public IP the subnet file's",
			store: map[string]string{"subnets/172.7.33.0-24": lease21, "subnets/172.7.44.0-24": lease21}, previous: "172.7.44.0/24", want: "172.7.44.0/24"},
		{name: "a clone's subnet file names a subnet that is leased", store: map[string]string{"subnets/172.7.21.0-24": lease22}, previous: "172.7.21.0/24"},
		{name: "the subnet file names a subnet that overlaps a lease", store: map[string]string{"subnets/172.7.16.0-20": lease22}, previous: "172.7.21.0/24"},
		{name: "the subnet file names a subnet of another network", previous: "10.1.2.0/24"},
		{name: "the subnet file names a subnet of another length", previous: "172.7.21.0/25"},
		{name: "our old lease is outside of the network", store: map[string]string{"subnets/10.9.8.0-24": lease21}, goes: true},
		{name: "garbage beside", store: map[string]string{"subnets/172.7.1.0-24": `{`, "subnets/x": lease22}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := subnettest.NewStore()
				for k, v := range tt.store {
					store.Set(k, v, time.Hour*24)
				}
				var options []hostOption
				if tt.previous != "" {
					options = append(options, previous(tt.previous))
				}
				h := start(t, store, claim("10.4.7.21"), options...)
				defer h.stop()
				settle()
				got := h.View().Own
				if !got.Subnet.IsValid() {
					t.Fatalf("no lease; store: %v", store.Entries())
				}
				if tt.want != "" && got.Subnet.String() != tt.want {
					t.Errorf("leased %v, want %v", got.Subnet, tt.want)
				}
				if !hostGW.Fits(got.Subnet) {
					t.Errorf("leased %v, which does not fit the config", got.Subnet)
				}
				e := entry(t, store, subnet.Key(got.Subnet))
				if e.Value != lease21 || e.TTL != subnet.LeaseTTL {
					t.Errorf("stored %s for %v, want %s for %v", e.Value, e.TTL, lease21, subnet.LeaseTTL)
				}
				if tt.goes {
					if len(store.Entries()) != 1 {
						t.Errorf("left is %v", store.Entries())
					}
					return
				}
				for k, v := range tt.store {
					if entry(t, store, k).Value != v {
						t.Errorf("%s was changed to %s", k, entry(t, store, k).Value)
					}
				}
			})
		})
	}
}

func TestNothingIsWrittenWithoutAClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		h := start(t, store, nil)
		defer h.stop()
		store.Set(subnet.ConfigKey, "{}", 0)
		time.Sleep(48 * time.Hour)
		synctest.Wait()
		if v := h.View(); v.Config != "{}" || !v.Listed {
			t.Errorf("view %+v, want the config", v)
		}
		if n := h.client.Calls("Put"); n != 0 {
			t.Errorf("%d writes", n)
		}
	})
}

func TestRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		h := start(t, store, claim("10.4.7.21"), previous("172.7.21.0/24"))
		defer h.stop()
		settle()
		for day := range 5 {
			time.Sleep(time.Until(h.View().Own.Expires) - time.Hour - 2*time.Minute)
			synctest.Wait()
			if n := h.client.Calls("Refresh"); n != day {
				t.Fatalf("%d renewals more than an hour before expiry, want %d", n, day)
			}
			time.Sleep(3 * time.Minute)
			synctest.Wait()
			if n := h.client.Calls("Refresh"); n != day+1 {
				t.Fatalf("%d renewals within the margin, want %d", n, day+1)
			}
			e := entry(t, store, "subnets/172.7.21.0-24")
			if e.TTL < 23*time.Hour || e.Value != lease21 {
				t.Fatalf("after renewal: %+v", e)
			}
			if left := time.Until(h.View().Own.Expires); left < 23*time.Hour {
				t.Fatalf("view says the lease expires in %v", left)
			}
		}
		if n := h.client.Calls("Put"); n != 1 {
			t.Errorf("%d writes of the lease, want the first one only", n)
		}
	})
}

func TestRenewalAfterAnOutageOverTheMargin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		h := start(t, store, claim("10.4.7.21"), previous("172.7.21.0/24"))
		defer h.stop()
		settle()
		h.client.Partition(true)
		time.Sleep(30 * time.Hour) // the lease expires meanwhile
		synctest.Wait()
		if len(store.Entries()) != 0 {
			t.Fatalf("the lease should have expired: %v", store.Entries())
		}
		if own(h) != "172.7.21.0/24" {
			t.Errorf("during the outage the host works with %s", own(h))
		}
		h.client.Partition(false)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if own(h) != "172.7.21.0/24" || entry(t, store, "subnets/172.7.21.0-24").Value != lease21 {
			t.Errorf("after the outage: %s, store %v", own(h), store.Entries())
		}
	})
}

func TestVanishedLeaseIsTakenAgain(t *testing.T) {
	for name, vanish := range map[string]func(*subnettest.Store){
		"deleted": func(s *subnettest.Store) { s.Remove("subnets/172.7.21.0-24") },
		"wiped":   func(s *subnettest.Store) { s.Wipe() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := subnettest.NewStore()
				h := start(t, store, claim("10.4.7.21"), previous("172.7.21.0/24"))
				defer h.stop()
				settle()
				vanish(store)
				time.Sleep(2 * time.Second)
				synctest.Wait()
				if own(h) != "172.7.21.0/24" || entry(t, store, "subnets/172.7.21.0-24").Value != lease21 {
					t.Errorf("holds %s, store %v", own(h), store.Entries())
				}
			})
		})
	}
}

func TestLostLeaseIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		h := start(t, store, claim("10.4.7.21"), previous("172.7.21.0/24"))
		defer h.stop()
		settle()
		store.Set("subnets/172.7.21.0-24", lease22, subnet.LeaseTTL)
		settle()
		if own(h) == "172.7.21.0/24" || own(h) == "none" {
			t.Errorf("holds %s", own(h))
		}
		if got := entry(t, store, "subnets/172.7.21.0-24").Value; got != lease22 {
			t.Errorf("the new holder's lease was overwritten: %s", got)
		}
	})
}

func TestReservation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("subnets/172.7.99.0-24", `{"PublicIP":"10.4.7.21"}`, 0)
		h := start(t, store, claim("10.4.7.21"))
		defer h.stop()
		time.Sleep(72 * time.Hour)
		synctest.Wait()
		e := entry(t, store, "subnets/172.7.99.0-24")
		if own(h) != "172.7.99.0/24" || e.TTL != 0 || e.Value != lease21 {
			t.Errorf("holds %s, entry %+v", own(h), e)
		}
	})
}

func TestClaimChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		h := start(t, store, claim("10.4.7.21"), previous("172.7.21.0/24"))
		defer h.stop()
		settle()
		vxlan := subnet.Attrs{PublicIP: netip.MustParseAddr("10.4.7.121"), BackendType: "vxlan", BackendData: `{"VtepMAC":"0a:39:13:5c:8e:41"}`}
		h.Claim(subnet.Claim{Config: hostGW, Attrs: vxlan})
		settle()
		e := entry(t, store, "subnets/172.7.21.0-24")
		if own(h) != "172.7.21.0/24" || e.Value != vxlan.Marshal() {
			t.Errorf("holds %s, entry %+v", own(h), e)
		}
		h.Claim(subnet.Claim{Config: mustConfig(`{"Network":"10.1.0.0/16"}`), Attrs: vxlan})
		settle()
		if got := h.View().Own.Subnet; !netip.MustParsePrefix("10.1.0.0/16").Contains(got.Addr()) {
			t.Errorf("after a change of network the host holds %v", got)
		}
	})
}

func TestFullNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		small := mustConfig(`{"Network":"10.1.0.0/28","SubnetLen":30}`)
		for i := range 3 {
			store.Set(fmt.Sprintf("subnets/10.1.0.%d-30", 4*(i+1)), fmt.Sprintf(`{"PublicIP":"10.4.7.%d"}`, 100+i), 0)
		}
		h := start(t, store, &subnet.Claim{Config: small, Attrs: attrs("10.4.7.21")})
		defer h.stop()
		time.Sleep(time.Hour)
		synctest.Wait()
		if own(h) != "none" || h.client.Calls("Put") != 0 {
			t.Fatalf("holds %s after %d writes", own(h), h.client.Calls("Put"))
		}
		store.Remove("subnets/10.1.0.8-30")
		time.Sleep(6 * time.Second) // its holder might come back
		synctest.Wait()
		if own(h) != "10.1.0.8/30" {
			t.Errorf("holds %s", own(h))
		}
	})
}

// Managers that saw different configs may create overlapping subnets at the
// same moment; the later one yields.
func TestOverlapYieldsToTheEarlier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		h := start(t, store, claim("10.4.7.21"), previous("172.7.21.0/24"))
		defer h.stop()
		settle()
		wide := mustConfig(`{"Network":"172.7.0.0/16","SubnetLen":20}`)
		other := start(t, store, &subnet.Claim{Config: wide, Attrs: attrs("10.4.7.22")}, previous("172.7.16.0/20"))
		defer other.stop()
		settle()
		if own(h) != "172.7.21.0/24" || own(other) == "172.7.16.0/20" {
			t.Errorf("first holds %s, second %s", own(h), own(other))
		}
		// Forced by hand, as if both had been created before either was seen.
		h.client.Partition(true)
		store.Remove("subnets/172.7.21.0-24")
		store.Set("subnets/172.7.16.0-20", `{"PublicIP":"10.4.7.99"}`, 0)
		store.Set("subnets/172.7.21.0-24", lease21, subnet.LeaseTTL)
		h.client.Partition(false)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if got := h.View().Own.Subnet; got.Overlaps(netip.MustParsePrefix("172.7.16.0/20")) || !got.IsValid() {
			t.Errorf("holds %v beside the earlier 172.7.16.0/20; store %v", got, store.Entries())
		}
	})
}

func TestWatchFollowsEverybody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		h := start(t, store, claim("10.4.7.21"), previous("172.7.21.0/24"))
		defer h.stop()
		settle()
		lists := h.client.Calls("List")
		store.Set("subnets/172.7.22.0-24", lease22, subnet.LeaseTTL)
		store.Set("subnets/172.7.23.0-24", `garbage`, subnet.LeaseTTL)
		settle()
		v := h.View()
		if len(v.Leases) != 2 || len(v.Malformed) != 1 {
			t.Errorf("view %+v", v)
		}
		// More events than the history holds, during a partition.
		h.client.Partition(true)
		for i := range 2 * subnettest.HistoryLength {
			store.Set(subnet.ConfigKey, fmt.Sprint(i), 0)
		}
		store.Remove("subnets/172.7.22.0-24")
		h.client.Partition(false)
		time.Sleep(9 * time.Second)
		synctest.Wait()
		if v := h.View(); len(v.Leases) != 1 || v.Config != fmt.Sprint(2*subnettest.HistoryLength-1) {
			t.Errorf("after an overrun: %+v", v)
		}
		if n := h.client.Calls("List") - lists; n != 1 {
			t.Errorf("%d lists, want 1", n)
		}
	})
}

func TestOutageIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		client := store.Client()
		client.Partition(true)
		h := &host{Manager: subnet.NewManager(client, subnet.Options{RenewMargin: time.Hour}), client: client}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		go func() { _ = h.Run(ctx) }()
		h.Claim(*claim("10.4.7.21"))
		time.Sleep(time.Minute)
		if n := client.Calls("List"); n < 40 || n > 200 {
			t.Errorf("%d tries in a minute, want about one a second", n)
		}
		client.Partition(false)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if own(h) == "none" {
			t.Error("no lease within two seconds of the store's return")
		}
	})
}

// A store that answers reads and refuses writes is not hammered, however many
// events arrive.
func TestRefusedWritesArePaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		h := start(t, store, nil)
		defer h.stop()
		h.client.Inject(subnettest.Refuse("Put"))
		h.Claim(*claim("10.4.7.21"))
		for i := range 600 {
			store.Set(subnet.ConfigKey, fmt.Sprint(i), 0)
			time.Sleep(100 * time.Millisecond)
		}
		if n := h.client.Calls("Put"); n > 200 {
			t.Errorf("%d writes in a minute", n)
		}
	})
}
