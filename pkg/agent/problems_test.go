package agent_test

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/klog/v2"

	"flanneld/pkg/condition"
	"flanneld/pkg/kernel"
	"flanneld/pkg/kernel/kerneltest"
	"flanneld/pkg/subnet/subnettest"
)

// TestProblems brings about all that an operator may be told of.
func TestProblems(t *testing.T) {
	for _, tt := range []struct {
		name    string
		trouble func(h *host, store *subnettest.Store)
		problem string
		reason  string // why it is not ready; "": it is
	}{
		{"etcd cannot be read", func(h *host, _ *subnettest.Store) { h.client.Partition(true) },
			"cannot read from etcd: injected: the store cannot be reached", "the list of peers may be old: injected"},
		{"interfaces cannot be listed", func(h *host, _ *subnettest.Store) { fails(h, "list links") },
			"cannot choose the external interface: list interfaces: no buffer space available", "cannot choose the external interface: list interfaces: no buffer space"},
		{"routes cannot be listed", func(h *host, _ *subnettest.Store) { fails(h, "list routes") },
			"cannot apply kernel state: list routes: no buffer space available", "cannot apply kernel state: list routes"},
		{"the interface loses its address", func(h *host, _ *subnettest.Store) {
			h.with(func(k *kerneltest.Kernel) { k.Change("ens33", func(l *kernel.Link) { l.Addrs = nil }) })
		}, "cannot choose the external interface: ", "cannot choose the external interface: "},
		{"another host has the same address", func(h *host, store *subnettest.Store) {
			twin := newHost(h.t, store, 21).start()
			h.t.Cleanup(twin.stop)
			settle(time.Minute)
			has(h.t, twin.problems(), "another host writes this host's lease of 172.7.21.0/24, so it seems to have the public IP 10.4.7.21 too")
		}, "another host writes this host's lease of 172.7.21.0/24, so it seems to have the public IP 10.4.7.21 too, or to be a copy of this host: give each its own with --public-ip or --iface", ""},
		{"the store is wiped", func(_ *host, store *subnettest.Store) { store.Wipe() },
			"etcd may have lost leases: routes of those that are missing stay for now", ""},
		{"another program deletes routes", func(h *host, _ *subnettest.Store) {
			for range 600 {
				h.with(func(k *kerneltest.Kernel) {
					k.EditRoutes(func([]kernel.FoundRoute) []kernel.FoundRoute { return nil })
				})
				settle(100 * time.Millisecond)
			}
		}, "another program undoes flanneld's work in the kernel again and again", "another program undoes flanneld's work"},
		{"a route of somebody else's is in the way", func(h *host, store *subnettest.Store) {
			h.with(func(k *kerneltest.Kernel) {
				if err := k.Run("ip route add 172.7.23.0/24 via 10.4.7.99 dev ens33 proto static"); err != nil {
					h.t.Error(err)
				}
			})
			store.Set("subnets/172.7.23.0-24", `{"PublicIP":"10.4.7.23","BackendType":"host-gw"}`, 0)
		}, "route 172.7.23.0/24 via 10.4.7.99 dev ens33 proto 4 was written by somebody else and stays", "route 172.7.23.0/24 via 10.4.7.99"},
		{"a route of somebody else's leads this host's subnet away", typed("ip route add 172.7.21.0/24 via 10.4.7.99 dev ens33 proto static"),
			"it leads packets away that are for the containers of this host, 172.7.21.0/24", "route 172.7.21.0/24 via 10.4.7.99"},
		{"a route of somebody else's leads to a part of a peer's subnet", typed("ip route add 172.7.22.128/25 via 10.4.7.99 dev ens33 proto static"),
			"it takes some of what is for the peer with 172.7.22.0/24", ""},
		{"the config is gone", func(_ *host, store *subnettest.Store) { store.Remove("config") }, "there is no config key yet", ""},
		{"the config has a misspelt field", func(_ *host, store *subnettest.Store) {
			store.Set("config", `{"Network":"172.7.0.0/16","Backend":{"Type":"host-gw"},"SubnetLenn":24}`, 0)
		}, `ignoring the field "SubnetLenn" of the config key: did you mean SubnetLen?`, ""},
		{"the config asks for IPv6 too", func(_ *host, store *subnettest.Store) {
			store.Set("config", `{"Network":"172.7.0.0/16","EnableIPv6":true,"Backend":{"Type":"host-gw"}}`, 0)
		}, `config key is wrong: IPv6Network is missing: set it to the cluster's range, such as "fd00:7::/48"`, ""},
		{"the config leaves IPv4 out", func(_ *host, store *subnettest.Store) {
			store.Set("config", `{"Network":"172.7.0.0/16","EnableIPv4":false,"Backend":{"Type":"host-gw"}}`, 0)
		}, `config key is wrong: EnableIPv4 "false" leaves no addresses for containers: remove the field, or set EnableIPv6`, ""},
		{"the config is wrong", func(_ *host, store *subnettest.Store) {
			store.Set("config", `{"Network":"172.7.0.0/16","Backend":{"Type":"carrier pigeon"}}`, 0)
		}, "carrier pigeon", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := subnettest.NewStore()
				store.Set("config", hostGW, 0)
				store.Set("subnets/172.7.22.0-24", `{"PublicIP":"10.4.7.22","BackendType":"host-gw"}`, 0)
				h := newHost(t, store, 21).start()
				t.Cleanup(h.stop)
				settle(2 * time.Second)
				if s := h.ask(); !s.Daemon.Ready || len(s.Conditions) > 0 {
					t.Fatalf("to begin with: %q, %v", s.Daemon.Reason, s.Conditions)
				}
				tt.trouble(h, store)
				settle(2 * time.Second)
				h.expectReason(tt.reason)
				has(t, h.problems(), tt.problem)
			})
		})
	}
}

// typed has somebody type a command.
func typed(command string) func(*host, *subnettest.Store) {
	return func(h *host, _ *subnettest.Store) {
		h.with(func(k *kerneltest.Kernel) {
			if err := k.Run(command); err != nil {
				h.t.Error(err)
			}
		})
	}
}

// TestForeignConfiguration: what others put on our device is told, and keeps the host
// from being ready where it leads away what that needs.
func TestForeignConfiguration(t *testing.T) {
	for _, tt := range []struct{ hand, problem, reason string }{
		{"ip addr add 169.254.8.9/16 dev flannel.1", "address 169.254.8.9/16 on flannel.1 is none of flanneld's, but of a program that", ""},
		{"ip addr add 10.4.7.125/25 dev flannel.1",
			"ip addr del 10.4.7.125/25 dev flannel.1", "leads 10.4.7.0/24 (the network of ens33) into the network"},
		{"ip route add 0.0.0.0/0 via 10.4.7.126 dev flannel.1 onlink", "ip route del 0.0.0.0/0 via 10.4.7.126 dev flannel.1 onlink",
			"all that has no other route"},
	} {
		t.Run(tt.hand, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := subnettest.NewStore()
				store.Set("config", `{"Network":"172.7.0.0/16","Backend":{"Type":"vxlan"}}`, 0)
				h := newHost(t, store, 21).start()
				t.Cleanup(h.stop)
				settle(2 * time.Second)
				h.expectReason("")
				typed(tt.hand)(h, store)
				settle(2 * time.Second)
				h.expectReason(tt.reason)
				has(t, h.problems(), tt.problem)
				typed(strings.Replace(tt.hand, " add ", " del ", 1))(h, store)
				settle(2 * time.Second)
				h.expectReason("")
				if problems := h.problems(); len(problems) > 0 {
					t.Errorf("left: %q", problems)
				}
			})
		})
	}
}

// TestForeignConfigurationAtStart: what leads a host away from etcd is told before there
// is a config, also where it makes the default route lead into the network, and is over
// once it is gone.
func TestForeignConfigurationAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		h := newHost(t, store, 21)
		for _, command := range []string{
			"ip link add flannel.1 address 0a:39:13:5c:8e:15 mtu 1450 type vxlan id 1 local 10.4.7.21 dev ens33 dstport 8472 nolearning",
			"ip link set flannel.1 alias flanneld", "ip addr add 172.7.21.0/32 dev flannel.1", "ip link set flannel.1 up",
			"ip route add 0.0.0.0/0 via 10.4.7.126 dev flannel.1 onlink",
		} {
			if err := h.kernel.Run(command); err != nil {
				t.Fatal(command, err)
			}
		}
		h.start()
		t.Cleanup(h.stop)
		settle(2 * time.Second)
		has(t, h.problems(), "ip route del 0.0.0.0/0 via 10.4.7.126 dev flannel.1 onlink")
		has(t, h.problems(), "it leads into the network, by flannel.1")
		typed("ip route del 0.0.0.0/0 via 10.4.7.126 dev flannel.1 onlink")(h, store)
		settle(2 * time.Second)
		for _, p := range h.problems() {
			if strings.Contains(p, "flannel.1") {
				t.Errorf("still said: %s", p)
			}
		}
	})
}

// fails lets a call of the host's kernel fail from now on.
func fails(h *host, which string) {
	h.with(func(k *kerneltest.Kernel) {
		k.Fail = func(call string) error {
			if call == which {
				return syscall.ENOBUFS
			}
			return nil
		}
	})
}

// problems are what a host's operator is told of.
func (h *host) problems() (texts []string) {
	h.t.Helper()
	for _, c := range h.ask().Conditions.Roots() {
		texts = append(texts, c.Text())
	}
	return texts
}

func has(t testing.TB, problems []string, want string) {
	t.Helper()
	if !slices.ContainsFunc(problems, func(p string) bool { return strings.Contains(p, want) }) {
		t.Errorf("problems %q, want one with %q", problems, want)
	}
}

// TestSubnetFileIsAProblem has a file where the subnet file's folder should be.
// TestIgnoredFields: each is told once, and over when the key is put right, is wrong as
// a whole, or is gone.
func TestIgnoredFields(t *testing.T) {
	var log bytes.Buffer
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	klog.SetOutputBySeverity("INFO", &log)
	t.Cleanup(func() { klog.SetOutput(io.Discard); klog.LogToStderr(true) })
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		h := newHost(t, store, 21)
		const ignored = `{"Network":"172.7.0.0/16","Frob":1,"Backend":{"Type":"vxlan","MacPrefix":"0E-2A"}}`
		store.Set("config", ignored, 0)
		h.start()
		defer h.stop()
		for _, step := range []struct {
			config string // "-": none
			want   string // the fields
		}{
			{ignored, "Backend.MacPrefix Frob"},
			{hostGW, ""},
			{strings.Replace(hostGW, "Network", `Enablenftable":true,"Network`, 1), "Enablenftable"},
			{"{", ""},
			{ignored, "Backend.MacPrefix Frob"},
			{"-", ""},
		} {
			if step.config == "-" {
				store.Remove("config")
			} else {
				store.Set("config", step.config, 0)
			}
			settle(time.Minute)
			h.with(func(*kerneltest.Kernel) {}) // another look is no news
			settle(time.Minute)
			var got []string
			for _, c := range h.agent.Conditions.List() {
				if c.Code == condition.ConfigFieldIgnored {
					got = append(got, c.Subject)
				}
			}
			if want := strings.Fields(step.want); !slices.Equal(got, want) {
				t.Errorf("under %s: %q, want %q", step.config, got, want)
			}
		}
		klog.Flush()
		if n := strings.Count(log.String(), `"Ignoring the field \"Frob\" of the config key: flanneld knows no such field"`); n != 2 {
			t.Errorf("told %d times:\n%s", n, log.String())
		}
	})
}

func TestSubnetFileIsAProblem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", hostGW, 0)
		h := newHost(t, store, 21)
		h.file = filepath.Join(h.file, "subnet.env")
		if err := os.WriteFile(filepath.Dir(h.file), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		h.start()
		defer h.stop()
		settle(time.Second)
		h.expectReason("cannot write the subnet file ")
		has(t, h.problems(), "cannot write the subnet file "+h.file+": ")
	})
}

// TestGarbageIsSummedUp has a store full of it.
func TestGarbageIsSummedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", hostGW, 0)
		for n := range 130 {
			store.Set(fmt.Sprintf("subnets/172.7.%d.0-24", n+100), "{", 0)
		}
		h := newHost(t, store, 21).start()
		defer h.stop()
		settle(2 * time.Second)
		s, said := h.ask(), h.problems()
		if len(said) != 51 || said[50] != "and 80 more like these" || !s.Daemon.Ready {
			t.Errorf("%d problems %q", len(said), said)
		}
	})
}

// TestAddressIsWaitedFor has an address that goes for a moment, and one that
// goes for good while another one is there.
func TestAddressIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", hostGW, 0)
		h := newHost(t, store, 21).start()
		defer h.stop()
		settle(2 * time.Second)
		set := func(addrs ...kernel.Addr) {
			h.with(func(k *kerneltest.Kernel) { k.Change("ens33", func(l *kernel.Link) { l.Addrs = addrs }) })
		}
		own := kernel.Addr{Prefix: netip.PrefixFrom(h.ip, 24)}
		fallbackAddress := kernel.Addr{Prefix: netip.MustParsePrefix("169.254.7.8/16"), LinkLocal: true}
		leaseOf := func() string { return find(store, "subnets/172.7.21.0-24").Value }
		before := leaseOf()
		set(fallbackAddress)
		settle(5 * time.Second)
		h.expectReason("cannot choose the external interface: ens33 has lost the address 10.4.7.21 and has only 169.254.7.8 left")
		set(own)
		settle(2 * time.Second)
		h.expectReason("")
		if now := leaseOf(); now != before {
			t.Errorf("the lease changed from %s to %s", before, now)
		}
		set(fallbackAddress)
		settle(time.Minute)
		if now := leaseOf(); !strings.Contains(now, "169.254.7.8") {
			t.Errorf("the lease is still %s", now)
		}
	})
}

// TestNoSubnetIsFree tells an operator what keeps a host waiting.
func TestNoSubnetIsFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", `{"Network":"172.7.0.0/16","SubnetMin":"172.7.22.0","SubnetMax":"172.7.22.0","Backend":{"Type":"host-gw"}}`, 0)
		store.Set("subnets/172.7.22.0-24", `{"PublicIP":"10.4.7.22","BackendType":"host-gw"}`, 0)
		h := newHost(t, store, 21).start()
		t.Cleanup(h.stop)
		settle(2 * time.Second)
		if s := h.ask(); s.Daemon.Ready || !strings.HasPrefix(s.Daemon.Reason, "no lease: every subnet of the config is leased; ") {
			t.Errorf("ready: %t, %q", s.Daemon.Ready, s.Daemon.Reason)
		}
		store.Remove("subnets/172.7.22.0-24")
		settle(2 * time.Minute)
		if s := h.ask(); !s.Daemon.Ready {
			t.Errorf("after the other host has gone: %q", s.Daemon.Reason)
		}
	})
}

// TestDownAtStartIsLoggedOnce: changes of the kernel while the external interface
// is down add no lines.
func TestDownAtStartIsLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard) // or klog makes files for what is graver
	klog.SetOutputBySeverity("INFO", &log)
	t.Cleanup(func() { klog.SetOutput(io.Discard); klog.LogToStderr(true) })
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", hostGW, 0)
		h := newHost(t, store, 21)
		h.kernel.Change("ens33", func(l *kernel.Link) { l.Up = false })
		h.start()
		defer h.stop()
		for range 20 {
			settle(time.Second)
			h.changes.signal(true)
		}
		h.expectReason("external interface ens33 is down: waiting for it")
		klog.Flush()
		for _, text := range []string{"Using external interface", "External interface ens33 is down"} {
			if n := strings.Count(log.String(), text); n != 1 {
				t.Errorf("%q is logged %d times:\n%s", text, n, log.String())
			}
		}
	})
}
