package lab

import (
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// RouteWatch waits for a route on a host.
type RouteWatch struct{ done chan struct{} }

// WatchRoute sends to seen when the host gets a route to a subnet such as
// "172.7.22.0/24".
func (h *Host) WatchRoute(subnet string, seen chan<- time.Time) *RouteWatch {
	h.lab.t.Helper()
	updates, done := make(chan netlink.RouteUpdate, 64), make(chan struct{})
	ns := netns.NsHandle(h.ns.fd)
	h.lab.must("watch the routes of "+h.Name, netlink.RouteSubscribeAt(ns, updates, done))
	go func() {
		for u := range updates {
			if u.Type == unix.RTM_NEWROUTE && u.Dst != nil && u.Dst.String() == subnet {
				seen <- time.Now()
			}
		}
	}()
	return &RouteWatch{done}
}

// Stop ends it.
func (w *RouteWatch) Stop() { close(w.done) }
