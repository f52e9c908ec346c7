package etcdconn

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Addresses are those at which etcd's members are: of endpoints that are addresses,
// and those that names have stood for whenever a connection was tried. It is for
// any number of goroutines.
type Addresses struct {
	named   bool
	changed chan struct{} // one slot

	mu    sync.Mutex
	all   []netip.Addr // the latest last
	heard time.Time    // when one of them last answered a connection, be it by refusing it
}

// mostAddresses bounds what names may stand for over time.
const mostAddresses = 32

// NewAddresses knows the endpoints that are addresses. Others show when they are
// dialled, by clients whose Config has it.
func NewAddresses(endpoints []string) *Addresses {
	a := &Addresses{changed: make(chan struct{}, 1)}
	for _, endpoint := range endpoints {
		u, err := url.Parse(endpoint)
		if err != nil {
			continue // it was checked
		}
		if ip, err := netip.ParseAddr(u.Hostname()); err == nil {
			a.note(ip)
		} else {
			a.named = true
		}
	}
	return a
}

// Named tells whether any endpoint has a name.
func (a *Addresses) Named() bool { return a.named }

// Changed signals that All has something new.
func (a *Addresses) Changed() <-chan struct{} { return a.changed }

// All are the addresses known so far, in their order.
func (a *Addresses) All() []netip.Addr {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := slices.Clone(a.all)
	slices.SortFunc(all, netip.Addr.Compare)
	return all
}

// Heard is when a host at one of the addresses, but for this one, last answered a
// connection, be it by refusing it: then the way there was free. Zero: none has.
func (a *Addresses) Heard() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.heard
}

func (a *Addresses) hear(addr string) {
	if to, err := netip.ParseAddrPort(addr); err != nil || to.Addr().IsLoopback() {
		return // what is behind a proxy on this host is not known
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.heard = time.Now()
}

func (a *Addresses) note(ip netip.Addr) {
	ip = ip.Unmap().WithZone("")
	a.mu.Lock()
	defer a.mu.Unlock()
	known := slices.Contains(a.all, ip)
	a.all = append(slices.DeleteFunc(a.all, func(o netip.Addr) bool { return o == ip }), ip)
	if len(a.all) > mostAddresses {
		a.all = slices.Delete(a.all, 0, 1)
	}
	if known {
		return
	}
	select {
	case a.changed <- struct{}{}:
	default:
	}
}

// Dialer is one whose connections' other ends are noted, whether or not they come
// about. See [Dialer].
func (f Files) Dialer(limit, silence time.Duration) *net.Dialer {
	d := Dialer(limit, silence)
	if f.addresses == nil {
		return d
	}
	control := d.Control
	d.Control = func(network, address string, c syscall.RawConn) error {
		if to, err := netip.ParseAddrPort(address); err == nil {
			f.addresses.note(to.Addr())
		}
		return control(network, address, c)
	}
	return d
}

// Connect is the dialer's DialContext, and notes that there was an answer.
func (f Files) Connect(ctx context.Context, d *net.Dialer, network, addr string) (net.Conn, error) {
	conn, err := d.DialContext(ctx, network, addr)
	if f.addresses == nil {
		return conn, err
	}
	switch {
	case err == nil:
		f.addresses.hear(conn.RemoteAddr().String())
	case errors.Is(err, syscall.ECONNREFUSED):
		if of, ok := errors.AsType[*net.OpError](err); ok && of.Addr != nil {
			f.addresses.hear(of.Addr.String())
		}
	}
	return conn, err
}
