package wgdevice

import (
	"fmt"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.zx2c4.com/wireguard/conn"
	wgtun "golang.zx2c4.com/wireguard/tun"
)

// tunDevice is a TUN device of wireguard-go's that says nothing of itself but what is
// put into events.
type tunDevice struct {
	wgtun.Device
	events chan wgtun.Event
	once   sync.Once

	mu     sync.Mutex
	closed bool
	mtu    int // that wireguard-go has heard of

	reading bool          // the reader has nothing in its hands that may go on
	entered chan struct{} // closed when it has come for more; nil: nobody waits for that
	held    chan struct{} // closed when packets may go on; nil: they may
}

// Read hands over what the kernel has sent, unless it is held.
func (t *tunDevice) Read(packets [][]byte, sizes []int, offset int) (int, error) {
	t.mu.Lock()
	t.reading = true
	if t.entered != nil {
		close(t.entered)
		t.entered = nil
	}
	t.mu.Unlock()
	n, err := t.Device.Read(packets, sizes, offset)
	t.mu.Lock()
	held := t.held
	t.reading = held != nil
	t.mu.Unlock()
	if held != nil {
		<-held
		t.mu.Lock()
		t.reading = false
		t.mu.Unlock()
	}
	return n, err
}

// hold keeps packets in the interface's queue. It returns when those that were read before have a session's
// key, or for whatever reason have none soon.
func (t *tunDevice) hold() {
	t.mu.Lock()
	if t.held != nil || t.closed {
		t.mu.Unlock()
		return
	}
	t.held = make(chan struct{})
	entered := make(chan struct{})
	if t.reading {
		close(entered)
	} else {
		t.entered = entered
	}
	t.mu.Unlock()
	select {
	case <-entered:
	case <-time.After(holdPause):
	}
}

// release lets them go on.
func (t *tunDevice) release() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.held != nil {
		close(t.held)
		t.held = nil
	}
}

// Events are those that wireguard-go acts upon.
func (t *tunDevice) Events() <-chan wgtun.Event { return t.events }

// Close lets go of the TUN device.
func (t *tunDevice) Close() (err error) {
	t.once.Do(func() {
		t.release()
		t.mu.Lock()
		t.closed = true
		close(t.events)
		t.mu.Unlock()
		err = t.Device.Close()
	})
	return err
}

// note tells wireguard-go of another MTU: it pads packets up to it.
func (t *tunDevice) note(mtu int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if mtu == t.mtu || t.closed {
		return
	}
	select {
	case t.events <- wgtun.EventMTUUpdate:
		t.mtu = mtu
	default: // the next call
	}
}

// lengthen gives the interface a queue as Ethernet's have it; half of that is a TUN device's.
func (u *userspace) lengthen() error {
	link := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: u.name}}
	if err := netlink.LinkSetTxQLen(link, queueLength); err != nil {
		return fmt.Errorf("set the length of the queue of %s to %d: %w", u.name, queueLength, err)
	}
	return nil
}

// setMTU sets that of the interface, where it is another.
func (u *userspace) setMTU(mtu int) error {
	if has, err := u.tun.MTU(); err == nil && has != mtu {
		link := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: u.name}}
		if err := netlink.LinkSetMTU(link, mtu); err != nil {
			return fmt.Errorf("set the MTU of %s to %d: %w", u.name, mtu, err)
		}
	}
	u.noteMTU()
	return nil
}

// noteMTU looks whether somebody else has set the MTU.
func (u *userspace) noteMTU() {
	if mtu, err := u.tun.MTU(); err == nil {
		u.tun.note(mtu)
	}
}

// bind is wireguard-go's sockets, hidden from its listener for routes: that asks the kernel
// for the way to each peer whenever any route changes, which for n peers that come at
// once is n² questions. It serves to forget source addresses; but those are not kept where
// packets come by UDP GRO (Linux 5.0), and each send leaves by the route of that moment.
type bind struct{ *conn.StdNetBind }

func newBind() conn.Bind {
	b := conn.NewStdNetBind()
	if std, ok := b.(*conn.StdNetBind); ok {
		return bind{std}
	}
	return b
}
