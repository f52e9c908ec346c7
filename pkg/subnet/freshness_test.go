package subnet_test

import (
	"bytes"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/klog/v2"

	"flanneld/pkg/condition"
	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/subnettest"
)

// on21 has a host take the subnet 172.7.21.0/24.
func on21(o *subnet.Options) { o.Previous = subnet.SubnetsOf(prefix21) }

// knows reports whether a host knows of a lease of this subnet.
func knows(h *host, prefix string) bool {
	for _, l := range h.View().Leases {
		if l.Subnet == netip.MustParsePrefix(prefix) {
			return true
		}
	}
	return false
}

func TestIdleIsFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, subnettest.NewStore(), claim("10.4.7.21"), on21)
		defer h.stop()
		time.Sleep(50 * time.Minute)
		settle()
		if v := h.View(); !v.Current || !v.Stored || time.Since(v.Read) > time.Second || h.client.Calls("List") != 1 {
			t.Errorf("after an idle hour: %+v, %d lists", v, h.client.Calls("List"))
		}
	})
}

func TestMemberHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		h := start(t, store, claim("10.4.7.21"), on21)
		defer h.stop()
		time.Sleep(time.Minute)
		h.client.Hang()
		store.Set("subnets/172.7.22.0-24", lease22, time.Hour)
		time.Sleep(10 * time.Second)
		if v := h.View(); knows(h, "172.7.22.0/24") || time.Since(v.Read) < 10*time.Second {
			t.Errorf("a member that hangs has told something: %+v", v)
		}
		time.Sleep(6 * time.Second)
		if v := h.View(); !knows(h, "172.7.22.0/24") || !v.Current {
			t.Errorf("16 s after the member hung up: %+v", v)
		}
		if all := h.wrong.List(); len(all) > 0 {
			t.Errorf("conditions %v", all)
		}
	})
}

// TestAge has a store that neither answers nor refuses: what is known stays, and
// is not taken for current.
func TestAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("subnets/172.7.22.0-24", lease22, 10*time.Hour)
		h := start(t, store, claim("10.4.7.21"), on21)
		defer h.stop()
		time.Sleep(time.Minute)
		h.client.Inject(func(string) subnettest.Fault { time.Sleep(time.Hour); return subnettest.None })
		h.client.Hang()
		hung := time.Now()
		for time.Since(hung) < time.Minute {
			v := h.View()
			if age := time.Since(v.Read); v.Current != (time.Since(hung) < subnet.StaleAfter) || age < time.Since(hung) {
				t.Fatalf("after %v: current %t, age %v", time.Since(hung), v.Current, age)
			}
			if !knows(h, "172.7.22.0/24") || !v.Own.Subnet.IsValid() {
				t.Fatalf("after %v: %+v", time.Since(hung), v)
			}
			time.Sleep(time.Second)
		}
		h.client.Inject(nil)
		time.Sleep(time.Hour)
		settle()
		if v := h.View(); !v.Current {
			t.Errorf("after the end: %+v", v)
		}
	})
}

// TestWatchEndsAtOnce has a proxy in mind that carries no long polls.
func TestWatchEndsAtOnce(t *testing.T) {
	var log bytes.Buffer
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	klog.SetOutputBySeverity("INFO", &log) // which gets the graver lines too
	defer func() { klog.SetOutput(io.Discard); klog.LogToStderr(true) }()
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		h := start(t, store, nil, on21)
		defer h.stop()
		h.client.Inject(subnettest.Refuse("Watch"))
		settle()
		h.Claim(*claim("10.4.7.21"))
		for n := range 20 {
			time.Sleep(30 * time.Second)
			prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 7, byte(100 + n), 0}), 24)
			store.Set(subnet.Key(prefix), lease22, time.Hour)
			for range 12 {
				time.Sleep(time.Second)
				if v := h.View(); !v.Current || !v.Stored {
					t.Fatalf("lists keep it current no more: %+v", v)
				}
			}
			if !knows(h, prefix.String()) {
				t.Fatalf("%v is not known after 12 s", prefix)
			}
		}
		if c, there := h.wrong.Find(condition.EtcdWatchBroken, ""); !there || !strings.Contains(c.Cause, "a proxy in front of etcd") {
			t.Errorf("condition %+v", c)
		}
		if n := h.client.Calls("List"); n > 200 { // one in 6.7 s on average, and some more at first
			t.Errorf("%d lists in 14 minutes", n)
		}
		h.client.Inject(nil)
		time.Sleep(25 * time.Second)
		if all := h.wrong.List(); len(all) > 0 {
			t.Errorf("conditions %v", all)
		}
	})
	klog.Flush()
	if n := strings.Count(log.String(), "\n"); n < 2 || n > 15 {
		t.Errorf("%d lines:\n%s", n, log.String())
	}
}

// TestLeaseIsNotStored: peers do not know of a lease that is not in the store.
func TestLeaseIsNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		h := start(t, store, claim("10.4.7.21"), on21)
		defer h.stop()
		settle()
		h.client.Inject(subnettest.Refuse("Put"))
		store.Remove(subnet.Key(h.View().Own.Subnet))
		settle()
		if v := h.View(); v.Stored || !v.Own.Subnet.IsValid() || !v.Current {
			t.Errorf("%+v", v)
		}
		h.client.Inject(nil)
		time.Sleep(3 * time.Second)
		if v := h.View(); !v.Stored {
			t.Errorf("%+v", v)
		}
	})
}
