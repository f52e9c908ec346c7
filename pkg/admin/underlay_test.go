package admin_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/subnettest"
	"flanneld/pkg/underlay"
)

// TestConfigOverTheUnderlay: a config whose subnets would take hosts' own addresses
// is not written, whoever consents.
func TestConfigOverTheUnderlay(t *testing.T) {
	at := func(p, what string) underlay.Need { return underlay.Need{Prefix: netip.MustParsePrefix(p), What: what} }
	etcd, lan, home := at("10.4.8.12/32", "etcd"), at("10.4.7.0/24", "the network of ens33"), at("10.4.99.0/24", "the network of wlan0")
	etcdSix := at("fd00:4::12/128", "etcd")
	const overSix = `{"Network":"172.7.0.0/16","EnableIPv6":true,"IPv6Network":"fd00::/16","Backend":{"Type":"host-gw"}}`
	const over, vx = `{"Network":"10.4.0.0/16","Backend":{"Type":"host-gw"}}`, `{"Network":"10.4.0.0/16","Backend":{"Type":"vxlan"}}`
	for _, tt := range []struct {
		name, text string
		known      underlay.Known
		config     string // in the store
		leases     map[string]string
		err        string
		asks       bool
		note       string
	}{
		{"etcd", over, underlay.Known{Etcd: []underlay.Need{etcd}}, "", nil,
			`Network "10.4.0.0/16" holds 10.4.8.12 (etcd), which hosts need: a subnet with that would cut them off; choose another Network, or SubnetMin and SubnetMax that leave it out`, false, ""},
		{"a host", over, underlay.Known{}, "", map[string]string{"172.7.21.0-24": by21},
			"holds 10.4.7.21 (the public IP of the host with 172.7.21.0/24)", false, ""},
		{"the network of a host", over, underlay.Known{Connected: []underlay.Need{lan}}, "", map[string]string{"172.7.21.0-24": by21},
			"holds 10.4.7.0/24 (the network of ens33), which", false, ""},
		{"a network of whoever types it", over, underlay.Known{Connected: []underlay.Need{home}}, "", nil, "", false, ""},
		{"a network of whoever types it, where etcd is", over, underlay.Known{Connected: []underlay.Need{home}, Local: true}, "", nil,
			"", true, "Network 10.4.0.0/16 shares addresses with 10.4.99.0/24 (the network of wlan0): if any host or etcd is reached at one"},
		{"they are left out", `{"Network":"10.4.0.0/16","SubnetMin":"10.4.128.0","Backend":{"Type":"host-gw"}}`,
			underlay.Known{Etcd: []underlay.Need{etcd}, Connected: []underlay.Need{lan}}, "", map[string]string{"172.7.21.0-24": by21}, "", true, ""},
		{"by a little", `{"Network":"10.4.0.0/16","SubnetMin":"10.4.9.0","Backend":{"Type":"host-gw"}}`, underlay.Known{Etcd: []underlay.Need{etcd}}, "", nil, "", false, ""},
		{"not by a little", `{"Network":"10.4.0.0/16","SubnetMin":"10.4.1.0","SubnetMax":"10.4.8.0","Backend":{"Type":"host-gw"}}`,
			underlay.Known{Etcd: []underlay.Need{etcd}}, "", nil, "holds 10.4.8.12 (etcd)", false, ""},
		{"it is so already", vx, underlay.Known{Etcd: []underlay.Need{etcd}}, over, nil, "", false, "holds 10.4.8.12 (etcd), which hosts need"},
		{"another range, with the same hosts in it", `{"Network":"10.4.0.0/16","SubnetLen":25,"Backend":{"Type":"host-gw"}}`, underlay.Known{Etcd: []underlay.Need{etcd}}, over, nil,
			"holds 10.4.8.12 (etcd), which hosts need", false, ""},
		{"set aside in a larger network of theirs", `{"Network":"10.4.128.0/17","Backend":{"Type":"host-gw"}}`,
			underlay.Known{Etcd: []underlay.Need{etcd}, Connected: []underlay.Need{at("10.4.0.0/16", "the network of ens33")}}, "", nil,
			"", true, "Network 10.4.128.0/17 shares addresses with 10.4.0.0/16 (the network of ens33)"},
		{"etcd by IPv6", overSix, underlay.Known{Etcd: []underlay.Need{etcd, etcdSix}}, "", nil,
			`IPv6Network "fd00::/16" holds fd00:4::12 (etcd), which hosts need: a subnet with that would cut them off; choose another IPv6Network, or IPv6SubnetMin and IPv6SubnetMax that leave it out`, false, ""},
		{"a host by IPv6", overSix, underlay.Known{}, "", map[string]string{"172.7.21.0-24&fd00:7:0:21::-64": byBoth},
			"holds fd00:4::21 (the public IP of the host with 172.7.21.0/24)", false, ""},
		{"a host of IPv6 alone", overSix, underlay.Known{}, "", map[string]string{"0.0.0.0-0&fd00:7:0:21::-64": bySix},
			"holds fd00:4::21 (the public IP of the host with fd00:7:0:21::/64)", false, ""},
		{"the IPv6 network of a host", overSix, underlay.Known{Connected: []underlay.Need{at("fd00:4::/64", "the network of ens33")}}, "",
			map[string]string{"172.7.21.0-24&fd00:7:0:21::-64": byBoth}, "holds fd00:4::/64 (the network of ens33), which", false, ""},
		{"IPv6 is so already, and IPv4 comes", overSix, underlay.Known{Etcd: []underlay.Need{etcdSix}},
			`{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00::/16","Backend":{"Type":"host-gw"}}`, nil, "", false, "holds fd00:4::12 (etcd), which hosts need"},
		{"IPv4 is so already, and IPv6 comes", `{"Network":"10.4.0.0/16","EnableIPv6":true,"IPv6Network":"fd00::/16","Backend":{"Type":"host-gw"}}`,
			underlay.Known{Etcd: []underlay.Need{etcd, etcdSix}}, over, nil, `IPv6Network "fd00::/16" holds fd00:4::12`, false, ""},
		{"IPv6 apart", both, underlay.Known{Etcd: []underlay.Need{etcdSix}}, "", map[string]string{"172.7.21.0-24&fd00:7:0:21::-64": byBoth}, "", false, ""},
		{"apart", hostGW, underlay.Known{Etcd: []underlay.Need{etcd}, Connected: []underlay.Need{lan}, Local: true}, "", nil, "", false, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			store := subnettest.NewStore()
			if tt.config != "" {
				store.Set("config", tt.config, 0)
			}
			for key, value := range tt.leases {
				store.Set("subnets/"+key, value, 0)
			}
			a := open(store)
			a.Underlay = func() underlay.Known { return tt.known }
			change, err := a.SetConfig(t.Context(), tt.text)
			var field *subnet.FieldError
			switch {
			case tt.err == "" && err != nil, tt.err != "" && (!errors.As(err, &field) || !strings.Contains(err.Error(), tt.err)):
				t.Errorf("%v, want %q", err, tt.err)
			case tt.asks != (change.Question != "") || !strings.Contains(strings.Join(change.Notes, "\n"), tt.note) || tt.note == "" && len(change.Notes) > 0:
				t.Errorf("asks %q, notes %q", change.Question, change.Notes)
			}
		})
	}
	// Many are summed up, and who knows nothing has nothing to say.
	store := subnettest.NewStore()
	for _, n := range []string{"21", "22", "23", "24", "25", "26", "27"} {
		store.Set("subnets/172.7."+n+".0-24", `{"PublicIP":"10.4.7.`+n+`","BackendType":"host-gw"}`, 0)
	}
	a := open(store)
	if _, err := a.SetConfig(t.Context(), over); err != nil {
		t.Error(err)
	}
	a.Underlay = func() underlay.Known { return underlay.Known{} }
	if _, err := a.SetConfig(t.Context(), over); err == nil || !strings.Contains(err.Error(), "172.7.25.0/24) and 2 more, which hosts need") {
		t.Error(err)
	}
}

// TestReservationOverTheUnderlay: a subnet that takes hosts' own addresses away is
// not reserved, another one of the same network is.
func TestReservationOverTheUnderlay(t *testing.T) {
	store := subnettest.NewStore()
	store.Set("config", `{"Network":"10.4.0.0/16","Backend":{"Type":"host-gw"}}`, 0)
	a := open(store)
	a.Underlay = func() underlay.Known {
		return underlay.Known{Etcd: []underlay.Need{underlay.Address(netip.MustParseAddr("10.4.8.12"), "etcd")}}
	}
	if _, err := reserve("10.4.8.0/24", "10.4.7.22")(t, a); err == nil || !strings.Contains(err.Error(), "10.4.8.0/24 holds 10.4.8.12 (etcd), which hosts need") {
		t.Error(err)
	}
	if _, err := reserve("10.4.9.0/24", "10.4.7.22")(t, a); err != nil {
		t.Error(err)
	}
}
