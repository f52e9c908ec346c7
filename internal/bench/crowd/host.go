package crowd

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/etcdauto"
)

// Host is one of a crowd.
type Host struct {
	number  int
	whole   bool // with a replica
	crowd   *Crowd
	address netip.Addr

	registry *etcdauto.Registry
	meter    *meter
	thin     *thin // nil: whole
	manager  *subnet.Manager
	previous netip.Prefix // of its subnet file

	end  context.CancelFunc
	done chan struct{}
}

// start starts the host anew: with new connections, and with nothing from before but
// its subnet file.
func (h *Host) start() error {
	registry, err := etcdauto.New(h.crowd.options.Etcd, h.crowd.options.API)
	if err != nil {
		return err
	}
	h.registry = registry
	h.meter = &meter{Registry: registry, history: h.crowd.history, account: account{host: h.number}}
	claim := subnet.Claim{
		Config: h.crowd.options.Config,
		Attrs:  subnet.Attrs{PublicIP: h.address, BackendType: h.crowd.options.Config.BackendType},
	}
	options := subnet.Options{
		RenewMargin: h.crowd.options.RenewMargin, Previous: subnet.SubnetsOf(h.previous), Resumed: h.previous.IsValid(),
	}
	if h.whole {
		h.manager = subnet.NewManager(h.meter, options)
	} else {
		h.thin = &thin{
			Registry: h.meter, address: fmt.Sprintf("%q", h.address), taken: h.crowd.taken,
			reserve: func(all []netip.Prefix) {
				with := claim
				with.Reserved = all
				h.manager.Claim(with)
			},
		}
		h.manager = subnet.NewManager(h.thin, options)
	}
	h.manager.Claim(claim)
	ctx, end := context.WithCancel(context.Background())
	h.end, h.done = end, make(chan struct{})
	go func() {
		defer close(h.done)
		_ = h.manager.Run(ctx)
	}()
	return nil
}

// stop ends the host, as its process' end would.
func (h *Host) stop() {
	if h.end == nil { // it was never started
		return
	}
	h.end()
	<-h.done
	if own := h.manager.View().Own; own.Subnet.IsValid() {
		h.previous = own.Subnet
	}
	h.registry.Close()
}

// knows tells whether the host has a lease and has heard of an index.
func (h *Host) knows(index uint64) bool {
	return h.meter.reached.Load() >= index && h.holds()
}

func (h *Host) holds() bool {
	if h.thin != nil {
		h.thin.mu.Lock()
		defer h.thin.mu.Unlock()
		return h.thin.held != ""
	}
	return h.manager.View().Own.Subnet.IsValid()
}

// renew renews the lease now, by the request that the Manager makes in 23 hours.
func (h *Host) renew(ctx context.Context) error {
	own := h.manager.View().Own
	_, err := h.registry.Refresh(ctx, subnet.Entry{
		Key: own.Key, Value: own.Value(own.Attrs), TTL: subnet.LeaseTTL, Modified: own.Modified,
	})
	return err
}

// shows says what a whole host's replica lacks of the store's leases, or has beside them.
func (h *Host) shows(store subnet.Snapshot) error {
	var want, have []string
	for _, e := range store.Entries {
		if _, err := subnet.ParseKey(e.Key); err == nil {
			want = append(want, fmt.Sprint(e.Key, " at ", e.Modified))
		}
	}
	for _, l := range h.manager.View().Leases {
		have = append(have, fmt.Sprint(l.Key, " at ", l.Modified))
	}
	slices.Sort(want)
	slices.Sort(have)
	if !slices.Equal(want, have) {
		return fmt.Errorf("host %d shows %d leases, and the store has %d, or others", h.number, len(have), len(want))
	}
	return nil
}
