package agent_test

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

// TestAnEditMovesNoHost: whatever addresses the config key asks for while the daemon runs, the host keeps its subnet
// and its routes, says so, and only a start moves it.
func TestAnEditMovesNoHost(t *testing.T) {
	const route = "ip route add 172.7.24.0/24 via 10.4.7.24 dev ens33 proto 77"
	for name, test := range map[string]struct {
		config  string
		pending string // "": it is followed at once
		restart string // the subnet after a start
		network string // in subnet.env, before that
	}{
		"longer subnets": {
			`{"Network":"172.7.0.0/16","SubnetLen":25,"Backend":{"Type":"host-gw"}}`, "/25 from 172.7.0.128", "/25", "172.7.0.0/16",
		},
		"another network": {
			`{"Network":"172.9.0.0/16","Backend":{"Type":"host-gw"}}`, "in 172.9.0.0/16", "172.9.", "172.7.0.0/16",
		},
		"a smaller network": {
			`{"Network":"172.7.16.0/21","SubnetLen":24,"Backend":{"Type":"host-gw"}}`, "in 172.7.16.0/21", "172.7.21.1/24", "172.7.0.0/16",
		},
		"a range without our subnet": {
			`{"Network":"172.7.0.0/16","SubnetMin":"172.7.30.0","Backend":{"Type":"host-gw"}}`, "from 172.7.30.0", "172.7.", "172.7.0.0/16",
		},
		"a larger network": {
			`{"Network":"172.6.0.0/15","SubnetLen":24,"Backend":{"Type":"host-gw"}}`, "", "172.7.21.1/24", "172.6.0.0/15",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := subnettest.NewStore()
				store.Set("config", hostGW, 0)
				store.Set("subnets/172.7.24.0-24", `{"PublicIP":"10.4.7.24","BackendType":"host-gw"}`, 0)
				h := newHost(t, store, 21).start()
				defer func() { h.stop() }()
				settle(3 * time.Second)
				writes := len(h.kernel.Ops)
				store.Set("config", test.config, 0)
				settle(time.Minute)
				h.shows(route)
				if n := len(h.kernel.Ops); n != writes {
					t.Errorf("the edit wrote %v", h.kernel.Ops[writes:])
				}
				if env := h.env(); !strings.Contains(env, "FLANNEL_NETWORK="+test.network+"\nFLANNEL_SUBNET=172.7.21.1/24\n") {
					t.Errorf("subnet.env became\n%s", env)
				}
				c, pending := h.wrong.Find(condition.AddressesPending, "")
				if pending != (test.pending != "") || !strings.Contains(c.Message, test.pending) ||
					pending && test.restart != "172.7.21.1/24" && !strings.Contains(c.Cause, "172.7.21.0/24 of 10.4.7.21") {
					t.Errorf("condition %+v", c)
				}
				// A change of the backend is followed all the same.
				store.Set("config", strings.Replace(test.config, "host-gw", "vxlan", 1), 0)
				settle(time.Minute)
				if got := tunnels(h); len(got) != 1 || !strings.Contains(h.env(), "FLANNEL_SUBNET=172.7.21.1/24\n") {
					t.Errorf("devices %v and\n%s", got, h.env())
				}
				h.stop()
				h.start()
				settle(time.Minute)
				if env := h.env(); !strings.Contains(env, test.restart) {
					t.Errorf("after a start subnet.env is\n%s", env)
				}
				if _, pending := h.wrong.Find(condition.AddressesPending, ""); pending {
					t.Error("after a start the condition stays")
				}
			})
		})
	}
}

// TestATypoPutRight: of an edit that is taken back nothing is left.
func TestATypoPutRight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", hostGW, 0)
		h := newHost(t, store, 21).start()
		defer func() { h.stop() }()
		settle(3 * time.Second)
		before := h.env()
		store.Set("config", `{"Network":"172.9.0.0/16","Backend":{"Type":"host-gw"}}`, 0)
		settle(5 * time.Second)
		store.Set("config", hostGW, 0)
		settle(5 * time.Second)
		if _, pending := h.wrong.Find(condition.AddressesPending, ""); pending || h.env() != before {
			t.Errorf("pending %v, subnet.env\n%s", pending, h.env())
		}
	})
}

// TestMovingFleet: while hosts move from one network to another, each at its own restart, those that have moved and
// those that have not route to one another.
func TestMovingFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", hostGW, 0)
		h := newHost(t, store, 21).start()
		defer func() { h.stop() }()
		settle(3 * time.Second)
		store.Set("config", `{"Network":"172.9.0.0/16","Backend":{"Type":"host-gw"}}`, 0)
		settle(10 * time.Second)
		store.Set("subnets/172.9.22.0-24", `{"PublicIP":"10.4.7.22","BackendType":"host-gw"}`, 0) // has moved
		store.Set("subnets/172.7.23.0-24", `{"PublicIP":"10.4.7.23","BackendType":"host-gw"}`, 0) // has not
		store.Set("subnets/10.99.1.0-24", `{"PublicIP":"10.4.7.24","BackendType":"host-gw"}`, 0)  // of neither
		settle(3 * time.Second)
		const both = "ip route add 172.7.23.0/24 via 10.4.7.23 dev ens33 proto 77\nip route add 172.9.22.0/24 via 10.4.7.22 dev ens33 proto 77"
		h.shows(both)
		h.stop()
		h.former = subnet.Env{Network: netip.MustParsePrefix("172.7.0.0/16"), Subnet: h.own} // as its subnet file says
		h.start()
		settle(10 * time.Second)
		h.shows(both)
		if env := h.env(); !strings.Contains(env, "FLANNEL_NETWORK=172.9.0.0/16\nFLANNEL_SUBNET=172.9.") {
			t.Errorf("after the start:\n%s", env)
		}
		store.Remove("subnets/172.7.23.0-24")
		settle(10 * time.Minute)
		h.shows("ip route add 172.9.22.0/24 via 10.4.7.22 dev ens33 proto 77")
	})
}
