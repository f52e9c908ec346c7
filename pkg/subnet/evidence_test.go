package subnet_test

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"flanneld/pkg/condition"
	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/subnettest"
)

const mac21 = "0a:00:00:00:00:21"

// vxlanAt is what a vxlan host says of itself.
func vxlanAt(ip, mac string) subnet.Attrs {
	return subnet.Attrs{PublicIP: netip.MustParseAddr(ip), BackendType: "vxlan", BackendData: `{"VtepMAC":"` + mac + `"}`}
}

func addrs(texts ...string) (out []netip.Addr) {
	for _, s := range texts {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// TestEvidence: what speaks for a lease of 172.7.21.0/24 being that of the host at 10.4.8.21.
func TestEvidence(t *testing.T) {
	file := []netip.Prefix{netip.MustParsePrefix("172.7.21.0/24")}
	other := []netip.Prefix{netip.MustParsePrefix("172.7.22.0/24")}
	tunnel := subnet.Self{VTEPs: []string{mac21}, Inside: addrs("172.7.21.0")}
	const at21, v28 = `{"PublicIP":"10.4.7.21","BackendType":"host-gw"}`,
		`{"PublicIP":"10.4.7.21","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"0A:00:00:00:00:21"}}`
	ours := vxlanAt("10.4.7.21", mac21).Marshal()
	for _, tt := range []struct {
		name  string
		lease string
		self  subnet.Self
		want  subnet.Evidence
	}{
		{"our public IP", `{"PublicIP":"10.4.8.21","BackendType":"host-gw"}`, subnet.Self{}, subnet.Proof},
		{"nothing", ours, subnet.Self{}, subnet.NoEvidence},
		{"the subnet file alone", ours, subnet.Self{Subnets: file}, subnet.NoEvidence},
		{"docker0's address alone", ours, subnet.Self{Inside: addrs("172.7.21.1")}, subnet.NoEvidence},
		{"the VTEP's MAC alone, which hosts with one machine ID have in common", ours, subnet.Self{VTEPs: []string{mac21}}, subnet.NoEvidence},
		{"the VTEP's MAC, and another subnet in the file", ours, subnet.Self{VTEPs: []string{mac21}, Subnets: other}, subnet.NoEvidence},
		{"the VTEP's MAC and the subnet file", ours, subnet.Self{VTEPs: []string{"0a:00:00:00:00:99", mac21}, Subnets: file}, subnet.Hint},
		{"the tunnel's device with its MAC and its address", ours, tunnel, subnet.Hint},
		{"the same, and the subnet file has been given another subnet", ours, subnet.Self{VTEPs: tunnel.VTEPs, Inside: tunnel.Inside, Subnets: other}, subnet.Hint},
		{"the lease is of flannel 0.28", v28, tunnel, subnet.Hint},
		{"another VTEP's MAC", vxlanAt("10.4.7.21", "0a:00:00:00:00:22").Marshal(), tunnel, subnet.NoEvidence},
		{"a MAC that is none", `{"PublicIP":"10.4.7.21","BackendType":"vxlan","BackendData":{"VtepMAC":""}}`,
			subnet.Self{VTEPs: []string{""}, Subnets: file}, subnet.NoEvidence},
		{"an address of another interface, and the subnet file", at21, subnet.Self{Addrs: addrs("10.4.8.21", "10.4.7.21"), Subnets: file}, subnet.Hint},
		{"an address of another interface, and docker0's", at21, subnet.Self{Addrs: addrs("10.4.7.21"), Inside: addrs("172.7.21.1")}, subnet.Hint},
		{"an address of another interface alone", at21, subnet.Self{Addrs: addrs("10.4.7.21")}, subnet.NoEvidence},
		{"an address of another interface, and another subnet in the file", at21, subnet.Self{Addrs: addrs("10.4.7.21"), Subnets: other}, subnet.NoEvidence},
		{"an address of a bridge of containers", at21, subnet.Self{Inside: addrs("10.4.7.21"), Subnets: file}, subnet.NoEvidence},
		{"what all guests of VirtualBox have", strings.Replace(at21, "10.4.7.21", "10.0.2.15", 1), subnet.Self{Addrs: addrs("10.0.2.15"), Subnets: file}, subnet.NoEvidence},
		{"that, and the VTEP's MAC", vxlanAt("10.0.2.15", mac21).Marshal(), subnet.Self{Addrs: addrs("10.0.2.15"), Subnets: file, VTEPs: []string{mac21}}, subnet.Hint},
	} {
		a, err := subnet.ParseAttrs(tt.lease)
		if err != nil {
			t.Fatal(tt.name, err)
		}
		tt.self.PublicIPs = addrs("10.4.8.21")
		l := subnet.Lease{Attrs: a, Key: "subnets/172.7.21.0-24", Subnet: file[0]}
		if got := tt.self.Evidence(&l); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

// TestMovedDualStackHost: the key that a dual-stack flannel made under the host's former address
// stays the key, with what it says of IPv6.
func TestMovedDualStackHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set(dual40, dualLease, time.Hour)
		h := start(t, store, &subnet.Claim{
			Config: hostGW, Attrs: vxlanAt("10.4.7.121", "4a:15:53:cd:6a:61"), Self: subnet.Self{Inside: addrs("172.7.40.0")},
		})
		defer h.stop()
		time.Sleep(6 * time.Second)
		synctest.Wait()
		want := `{"PublicIP":"10.4.7.121","PublicIPv6":"fd00:4::21","BackendType":"vxlan","BackendData":{"VtepMAC":"4a:15:53:cd:6a:61"},"BackendV6Data":{"VNI":1,"VtepMAC":"8e:6b:3d:38:d7:c0"}}`
		if e := entry(t, store, dual40); own(h) != "172.7.40.0/24" || e.Value != want || len(store.Entries()) != 1 {
			t.Errorf("%s; store %v", own(h), store.Entries())
		}
	})
}

// copyOf21 is a copy of the host at 10.4.7.21 under another address, which has all that
// its original has: the MAC, the subnet file.
func copyOf21(t *testing.T, store *subnettest.Store) *host {
	return start(t, store, &subnet.Claim{Config: hostGW, Attrs: vxlanAt("10.4.7.66", mac21)}, previous("172.7.21.0/24"))
}

// TestCopyOfALivingHost: whatever a copy of a virtual machine has of its original, it never
// gets its lease, not for a moment, and gets one of its own once it has another MAC.
func TestCopyOfALivingHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		original := start(t, store, &subnet.Claim{Config: hostGW, Attrs: vxlanAt("10.4.7.21", mac21)}, previous("172.7.21.0/24"))
		defer original.stop()
		settle()
		for range 5 { // it is started again and again
			clone := copyOf21(t, store)
			for range 100 {
				time.Sleep(100 * time.Millisecond)
				synctest.Wait()
				if e := entry(t, store, "subnets/172.7.21.0-24"); own(clone) != "none" || own(original) != "172.7.21.0/24" || !strings.Contains(e.Value, "10.4.7.21") {
					t.Fatalf("the copy holds %s, the original %s; stored %s", own(clone), own(original), e.Value)
				}
			}
			if living := clone.View().Living; !living["subnets/172.7.21.0-24"] {
				t.Fatalf("living: %v", living)
			}
			clone.Claim(subnet.Claim{Config: hostGW, Attrs: vxlanAt("10.4.7.66", "0a:00:00:00:00:66")})
			settle()
			if got := own(clone); got == "none" || got == "172.7.21.0/24" {
				t.Errorf("with another MAC it holds %s", got)
			}
			clone.stop()
			for _, e := range store.Entries() {
				if strings.Contains(e.Value, "10.4.7.66") {
					store.Remove(e.Key)
				}
			}
			time.Sleep(10 * time.Minute)
		}
	})
}

// TestLateAnswer: the holder was cut off while it was asked. Its answer comes later, and
// the copy gives the lease back.
func TestLateAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		original := start(t, store, &subnet.Claim{Config: hostGW, Attrs: vxlanAt("10.4.7.21", mac21)}, previous("172.7.21.0/24"))
		defer original.stop()
		settle()
		original.client.Partition(true)
		clone := copyOf21(t, store)
		defer clone.stop()
		time.Sleep(10 * time.Second)
		if got := own(clone); got != "172.7.21.0/24" {
			t.Fatalf("nobody has answered, and it holds %s", got)
		}
		original.client.Partition(false)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		e := entry(t, store, "subnets/172.7.21.0-24")
		if own(clone) == "172.7.21.0/24" || own(original) != "172.7.21.0/24" || !strings.Contains(e.Value, "10.4.7.21") {
			t.Errorf("the copy holds %s, the original %s; stored %s", own(clone), own(original), e.Value)
		}
	})
}

// TestNeitherKnows: the holder was cut off while it was asked, and the copy was started again
// since, so that it takes the lease for its own. One of them gives it up, and soon.
func TestNeitherKnows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		original := start(t, store, &subnet.Claim{Config: hostGW, Attrs: vxlanAt("10.4.7.21", mac21)}, previous("172.7.21.0/24"))
		defer original.stop()
		settle()
		original.client.Partition(true)
		clone := copyOf21(t, store)
		time.Sleep(10 * time.Second)
		clone.stop()
		clone = copyOf21(t, store)
		defer clone.stop()
		time.Sleep(10 * time.Second)
		original.client.Partition(false)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if own(clone) == "172.7.21.0/24" || own(original) != "172.7.21.0/24" {
			t.Errorf("the copy holds %s, the original %s", own(clone), own(original))
		}
	})
}

// TestRestoredAddress: a host has moved, and the store is restored to what it was before.
// That is no answer of a living holder: it keeps its subnet.
func TestRestoredAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		h := start(t, store, &subnet.Claim{Config: hostGW, Attrs: vxlanAt("10.4.7.21", mac21)}, previous("172.7.21.0/24"))
		defer h.stop()
		settle()
		backup := store.Entries()
		h.Claim(subnet.Claim{Config: hostGW, Attrs: vxlanAt("10.4.7.66", mac21)})
		settle()
		store.Wipe()
		for _, e := range backup {
			store.Set(e.Key, e.Value, e.TTL)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if e := entry(t, store, "subnets/172.7.21.0-24"); own(h) != "172.7.21.0/24" || !strings.Contains(e.Value, "10.4.7.66") {
			t.Errorf("it holds %s; stored %s", own(h), e.Value)
		}
	})
}

// TestQuestionIsLost: the write that asks has an unknown outcome, or none. A holder that lives
// keeps its lease all the same, and one that does not is followed.
func TestQuestionIsLost(t *testing.T) {
	for _, fault := range []subnettest.Fault{subnettest.Lost, subnettest.Refused} {
		for _, lives := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				store := subnettest.NewStore()
				original := start(t, store, &subnet.Claim{Config: hostGW, Attrs: vxlanAt("10.4.7.21", mac21)}, previous("172.7.21.0/24"))
				settle()
				if lives {
					defer original.stop()
				} else {
					original.stop()
				}
				clone := start(t, store, nil, previous("172.7.21.0/24"))
				defer clone.stop()
				once := false
				clone.client.Inject(func(op string) subnettest.Fault {
					if op != "Put" || once {
						return subnettest.None
					}
					once = true
					return fault
				})
				clone.Claim(subnet.Claim{Config: hostGW, Attrs: vxlanAt("10.4.7.66", mac21)})
				time.Sleep(3 * time.Minute)
				synctest.Wait()
				if took := own(clone) == "172.7.21.0/24"; took == lives {
					t.Errorf("%v, the holder lives: %t: it holds %s", fault, lives, own(clone))
				}
			})
		}
	}
}

// TestReservationCounts: what an operator reserves for a host it has from its next start on,
// whatever it held before and its subnet file says.
func TestReservationCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		h := start(t, store, claim("10.4.7.21"), previous("172.7.99.0/24"))
		settle()
		store.Set("subnets/172.7.238.0-24", lease21, 0)
		settle()
		if got := own(h); got != "172.7.99.0/24" {
			t.Errorf("while it runs it holds %s", got)
		}
		h.stop()
		for range 2 {
			h = start(t, store, claim("10.4.7.21"), previous("172.7.99.0/24"))
			settle()
			if got := own(h); got != "172.7.238.0/24" {
				t.Errorf("started again it holds %s", got)
			}
			if _, wrong := h.wrong.Find(condition.LeaseContested, ""); wrong {
				t.Error("it is contested")
			}
			h.stop()
		}
	})
}

// TestEvidenceInFamilies: of two families the first one that the host and the lease both know
// decides.
func TestEvidenceInFamilies(t *testing.T) {
	dual := `{"PublicIP":"10.4.7.21","PublicIPv6":"fd00:4::21","BackendType":"vxlan","BackendV6Data":{"VNI":1,"VtepMAC":"` + mac21 + `"}}`
	six := `{"PublicIP":"0.0.0.0","PublicIPv6":"fd00:4::21","BackendType":"host-gw"}`
	of6 := []netip.Prefix{netip.MustParsePrefix("fd00:7:0:21::/64")}
	for _, tt := range []struct {
		name, key, lease string
		self             subnet.Self
		want             subnet.Evidence
	}{
		{"both are ours", dual21, dual, subnet.Self{PublicIPs: addrs("10.4.7.21", "fd00:4::21")}, subnet.Proof},
		{"IPv6 has changed", dual21, dual, subnet.Self{PublicIPs: addrs("10.4.7.21", "fd00:4::99")}, subnet.Proof},
		{"IPv4 has changed", dual21, dual, subnet.Self{PublicIPs: addrs("10.4.7.99", "fd00:4::21")}, subnet.NoEvidence},
		{"the host uses IPv6 alone now", dual21, dual, subnet.Self{PublicIPs: addrs("fd00:4::21")}, subnet.Proof},
		{"the host used IPv6 alone", six21, six, subnet.Self{PublicIPs: addrs("10.4.7.21", "fd00:4::21")}, subnet.Proof},
		{"families that have nothing in common", six21, six, subnet.Self{PublicIPs: addrs("10.4.7.21")}, subnet.NoEvidence},
		{"the VTEP of IPv6, and its subnet", dual21, dual, subnet.Self{PublicIPs: addrs("10.4.7.99"), VTEPs: []string{mac21}, Subnets: of6}, subnet.Hint},
		{"an address of IPv6, and its subnet", six21, six, subnet.Self{PublicIPs: addrs("fd00:4::99"), Addrs: addrs("fd00:4::21"), Subnets: of6}, subnet.Hint},
	} {
		store := subnettest.NewStore()
		store.Set(tt.key, tt.lease, subnet.LeaseTTL)
		s, err := store.Client().List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		leases := s.Read(time.Now()).Leases
		if len(leases) != 1 {
			t.Fatalf("%s: %v", tt.name, leases)
		}
		if got := tt.self.Evidence(&leases[0]); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

const (
	dual21 = "subnets/172.7.21.0-24&fd00:7:0:21::-64"
	six21  = "subnets/0.0.0.0-0&fd00:7:0:21::-64"
)
