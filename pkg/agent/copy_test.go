package agent_test

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"flanneld/pkg/kernel"
	"flanneld/pkg/kernel/kerneltest"
	"flanneld/pkg/subnet/subnettest"
)

// vtep is the MAC of flannel.1.
func vtep(h *host) (m kernel.MAC) {
	links, _ := h.Links()
	for _, l := range links {
		if l.Name == "flannel.1" {
			m = l.MAC
		}
	}
	return m
}

// value is what a lease of the store says.
func value(store *subnettest.Store, key string) string {
	for _, e := range store.Entries() {
		if e.Key == key {
			return e.Value
		}
	}
	return ""
}

// TestTheSameHostElsewhere: a host that is started again with another address, or by another
// interface, keeps its subnet and its VTEP's MAC, by whatever of before is left.
func TestTheSameHostElsewhere(t *testing.T) {
	for name, tt := range map[string]struct {
		config string
		change func(h *host, k *kerneltest.Kernel)
		moves  bool // to another subnet
	}{
		"another interface, the address of before is there": {vxLAN, func(h *host, k *kerneltest.Kernel) {
			k.AddLink(kernel.Link{Name: "ens34", MTU: 1500, Up: true, Addrs: []kernel.Addr{{Prefix: netip.MustParsePrefix("10.4.8.21/24")}}})
			h.reach = netip.MustParseAddr("10.4.8.1")
		}, false},
		"another address": {vxLAN, renumber, false},
		"another address, and no subnet file": {vxLAN, func(h *host, k *kerneltest.Kernel) {
			renumber(h, k)
			h.own, h.former.Subnet = netip.Prefix{}, netip.Prefix{}
		}, false},
		"another interface by host-gw": {hostGW, func(h *host, k *kerneltest.Kernel) {
			k.AddLink(kernel.Link{Name: "ens34", MTU: 1500, Up: true, Addrs: []kernel.Addr{{Prefix: netip.MustParsePrefix("10.4.8.21/24")}}})
			h.reach = netip.MustParseAddr("10.4.8.1")
		}, false},
		"another address by host-gw": {hostGW, renumber, true},
		"another address, and another VNI": {vxLAN, func(h *host, k *kerneltest.Kernel) {
			renumber(h, k)
			h.store.Set("config", `{"Network": "172.7.0.0/16", "Backend": {"Type": "VxLAN", "VNI": 7}}`, 0)
		}, false},
		"another address, and another mode": {vxLAN, func(h *host, k *kerneltest.Kernel) {
			renumber(h, k)
			h.store.Set("config", hostGW, 0)
		}, false},
		"another address, and subnet.env was edited": {vxLAN, func(h *host, k *kerneltest.Kernel) {
			renumber(h, k)
			h.own = netip.MustParsePrefix("172.7.99.0/24")
			h.former.Subnet = h.own
		}, false},
		"behind a router since, and the subnet file is gone": {vxLAN, func(h *host, _ *kerneltest.Kernel) {
			h.public = netip.MustParseAddr("203.0.113.5")
			h.own, h.former.Subnet = netip.Prefix{}, netip.Prefix{}
		}, false},
		"another address, and a device of flannel's, of another VTEP": {vxLAN, func(h *host, k *kerneltest.Kernel) {
			renumber(h, k)
			k.Change("flannel.1", func(l *kernel.Link) { l.MAC = kernel.MAC{0x0a, 9, 9, 9, 9, 9} })
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := subnettest.NewStore()
				store.Set("config", tt.config, 0)
				h := newHost(t, store, 21).start()
				settle(time.Second)
				before := vtep(h)
				h.stop()
				h.former.Subnet, h.former.Network = h.own, netip.MustParsePrefix("172.7.0.0/16")
				h.resumed = true
				tt.change(h, h.kernel)
				h.start()
				defer h.stop()
				settle(time.Minute)
				select {
				case l := <-h.ready:
					if moved := l.Subnet.String() != "172.7.21.0/24"; moved != tt.moves {
						t.Errorf("it holds %v", l.Subnet)
					}
				default:
					t.Error("not ready")
				}
				v := value(store, "subnets/172.7.21.0-24")
				if stays := strings.Contains(v, `"10.4.7.21"`); stays != tt.moves {
					t.Errorf("the lease says %s", v)
				}
				if strings.Contains(v, "vxlan") && !strings.Contains(v, before.String()) {
					t.Errorf("the MAC was %v, and the lease says %s", before, v)
				}
			})
		})
	}
}

// renumber gives a host another address, as DHCP does.
func renumber(_ *host, k *kerneltest.Kernel) {
	k.Change("ens33", func(l *kernel.Link) { l.Addrs = []kernel.Addr{{Prefix: netip.MustParsePrefix("10.4.7.121/24")}} })
}

// TestCopyGetsItsOwn: a copy of a running virtual machine, which has its flannel.1 and its
// subnet file, gets a subnet and a MAC of its own, and its original notices nothing.
func TestCopyGetsItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", vxLAN, 0)
		original := newHost(t, store, 21).start()
		defer original.stop()
		settle(time.Second)
		clone := newHost(t, store, 66)
		clone.own, clone.former.Subnet, clone.former.Network = original.own, original.own, netip.MustParsePrefix("172.7.0.0/16")
		links, _ := original.Links()
		for _, l := range links {
			if l.Name == "flannel.1" {
				clone.kernel.AddLink(l)
			}
		}
		clone.start()
		defer clone.stop()
		settle(time.Minute)
		select {
		case l := <-clone.ready:
			if l.Subnet == original.own {
				t.Errorf("the copy has taken %v", l.Subnet)
			}
			if v := value(store, l.Key); !strings.Contains(v, vtep(clone).String()) {
				t.Errorf("the copy's lease says %s", v)
			}
			original.contains("ip route add " + l.Subnet.String() + " via " + l.Subnet.Addr().String() + " dev flannel.1 onlink proto 77")
		default:
			t.Error("the copy is not ready")
		}
		if vtep(clone) == vtep(original) {
			t.Errorf("both have the MAC %v", vtep(clone))
		}
		if v := value(store, "subnets/172.7.21.0-24"); !strings.Contains(v, `"10.4.7.21"`) || !strings.Contains(v, vtep(original).String()) {
			t.Errorf("the original's lease says %s", v)
		}
	})
}
