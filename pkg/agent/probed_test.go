package agent_test

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"flanneld/pkg/backend"
	"flanneld/pkg/backend/alloc"
	"flanneld/pkg/backend/hostgw"
	"flanneld/pkg/backend/udp"
	"flanneld/pkg/backend/vxlan"
	"flanneld/pkg/kernel"
	"flanneld/pkg/kernel/kerneltest"
	"flanneld/pkg/monitor"
	"flanneld/pkg/subnet/subnettest"
)

// probes is what who probes peers sees of a host.
func (h *host) probes() (of monitor.Host, paths map[netip.Prefix]monitor.Path) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := h.agent.Paths(ctx, func(host monitor.Host, peers monitor.Peers) {
		of, paths = host, map[netip.Prefix]monitor.Path{}
		for peer, since := range peers.All {
			p, has := peers.Of(peer)
			if !has || !p.Since.Equal(since) {
				h.t.Errorf("%v since %v is %+v, %v", peer, since, p, has)
			}
			paths[peer] = p
		}
	}); err != nil {
		h.t.Fatal(err)
	}
	return of, paths
}

func TestPaths(t *testing.T) {
	for _, tt := range []struct {
		config string
		leases map[string]string
		mtu    int
		want   map[string]monitor.Path // but for Since
	}{
		{hostGW, map[string]string{"172.7.22.0-24": `{"PublicIP":"10.4.7.22","BackendType":"host-gw"}`, "172.7.23.0-24": `{"PublicIP":"10.4.8.23","BackendType":"host-gw"}`}, 1500,
			map[string]monitor.Path{"172.7.22.0/24": {Direct: true, Via: netip.MustParseAddr("10.4.7.22")}}},
		{direct, map[string]string{
			"172.7.22.0-24": `{"PublicIP":"10.4.7.22","BackendType":"vxlan","BackendData":{"VtepMAC":"0a:00:00:00:00:16"}}`,
			"172.7.23.0-24": `{"PublicIP":"10.4.8.23","BackendType":"vxlan","BackendData":{"VtepMAC":"0a:00:00:00:00:17"}}`,
		}, 1450, map[string]monitor.Path{
			"172.7.22.0/24": {Direct: true, Via: netip.MustParseAddr("10.4.7.22")}, "172.7.23.0/24": {Via: netip.MustParseAddr("172.7.23.0")},
		}},
		{`{"Network":"172.7.0.0/16","Backend":{"Type":"udp"}}`, map[string]string{"172.7.22.0-24": `{"PublicIP":"10.4.7.22"}`}, 1472,
			map[string]monitor.Path{"172.7.22.0/24": {Hops: 2}}},
		{`{"Network":"172.7.0.0/16","Backend":{"Type":"alloc"}}`, map[string]string{"172.7.22.0-24": `{"PublicIP":"10.4.7.22"}`}, 1500, nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			store := subnettest.NewStore()
			h := newHost(t, store, 21)
			h.backends = map[string]backend.Factory{alloc.Type: alloc.New, hostgw.Type: hostgw.New, udp.Type: udp.New, vxlan.Type: vxlan.New}
			h.start()
			defer h.stop()
			settle(time.Second)
			if of, paths := h.probes(); of.Works || len(paths) > 0 {
				t.Errorf("without a config: %+v, %v", of, paths)
			}
			for key, value := range tt.leases {
				store.Set("subnets/"+key, value, 24*time.Hour)
			}
			store.Set("config", tt.config, 0)
			settle(10 * time.Second)
			of, paths := h.probes()
			if sources := []netip.Addr{h.own.Addr().Next(), h.own.Addr(), h.ip}; !of.Works || of.MTU != tt.mtu || !slices.Equal(of.Sources, sources) {
				t.Errorf("%s: %+v", tt.config, of)
			}
			if len(paths) != len(tt.want) {
				t.Errorf("%s: %v", tt.config, paths)
			}
			for subnet, want := range tt.want {
				got := paths[netip.MustParsePrefix(subnet)]
				if got.Since.IsZero() {
					t.Errorf("%s, %s: %+v", tt.config, subnet, got)
				}
				if got.Since = (time.Time{}); !want.Direct && want.Hops == 2 {
					got.Via = netip.Addr{}
				}
				if got != want {
					t.Errorf("%s, %s: %+v, want %+v", tt.config, subnet, got, want)
				}
			}
			h.with(func(k *kerneltest.Kernel) { k.Change("ens33", func(l *kernel.Link) { l.Up = false }) })
			settle(time.Second)
			if of, _ := h.probes(); of.Works {
				t.Errorf("%s: with its interface down: %+v", tt.config, of)
			}
		})
	}
}

// TestPathsWithoutEtcd: peers are probed also while the store is away.
func TestPathsWithoutEtcd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", hostGW, 0)
		h := newHost(t, store, 21).start()
		defer h.stop()
		settle(10 * time.Second)
		h.client.Partition(true)
		settle(time.Minute)
		if of, _ := h.probes(); !of.Works {
			t.Errorf("%+v, %q", of, h.ask().Daemon.Reason)
		}
	})
}
