package wgdevice

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// Control configures the WireGuard devices of one network namespace, that of the
// threads which call it. It is for one goroutine. Those of the kernel are made and deleted
// by netlink, by others; those in user space are this process's own.
type Control struct {
	mu      sync.Mutex // against the timer
	kernel  kernelDevices
	own     map[string]*userspace
	memory  map[string]*memory
	greeted map[string]greeted
	timer   *time.Timer // nil: none waits
	closed  bool
}

// New opens nothing yet.
func New() *Control {
	return &Control{own: map[string]*userspace{}, memory: map[string]*memory{}, greeted: map[string]greeted{}}
}

// engine is one device, wherever it runs.
type engine interface {
	// read tells of each peer the endpoint that it has now.
	read() (Settings, []FoundPeer, error)
	configure(wgtypes.Config) error
	// edits counts those of others, as far as the device knows of them.
	edits() int64
}

// device finds a device. The error is fs.ErrNotExist where neither the kernel nor this
// process has a WireGuard device of that name.
func (c *Control) device(name string) (engine, error) {
	if u := c.running(name); u != nil {
		return u, nil
	}
	d, err := c.kernel.device(name)
	if isNotThere(err) {
		c.forget(name)
	}
	return d, err
}

// Read tells what a device is. Peers are in no order. A peer's Endpoint is the one that it
// was told last, by this Control or by somebody else, and not where WireGuard has since
// seen the peer's packets come from: that is no edit. The two are told apart by the bytes
// received, and by what comes by the socket of a device in this process. It is fs.ErrNotExist
// that the device is not there, or is of another kind.
func (c *Control) Read(name string) (Settings, []FoundPeer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d, err := c.device(name)
	if err != nil {
		return Settings{}, nil, fmt.Errorf("read WireGuard device %s: %w", name, err)
	}
	before := d.edits()
	s, peers, err := d.read()
	if err != nil {
		return Settings{}, nil, fmt.Errorf("read WireGuard device %s: %w", name, err)
	}
	m := c.memory[name]
	if m == nil {
		m = &memory{}
		c.memory[name] = m
	}
	m.found(peers, m.edits != d.edits())
	m.edits = before // one that came meanwhile is looked for again
	return s, peers, nil
}

// Configure sets what differs of a device's private key and port, and begins to listen. A
// peer whose key is the device's own goes. The sessions of another key go on
// receiving, and each peer needs a new one to send by.
func (c *Control) Configure(name string, want Settings) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	d, err := c.device(name)
	if err != nil {
		return fmt.Errorf("configure WireGuard device %s: %w", name, err)
	}
	has, peers, err := d.read()
	if err != nil {
		return fmt.Errorf("configure WireGuard device %s: %w", name, err)
	}
	var change wgtypes.Config
	if has.Private != want.Private {
		change.PrivateKey = (*wgtypes.Key)(&want.Private)
		if u := c.running(name); u != nil {
			c.hold(u, peers)
		}
	}
	if has.ListenPort != want.ListenPort {
		change.ListenPort = &want.ListenPort
	}
	if change.PrivateKey != nil || change.ListenPort != nil {
		err = d.configure(change)
	}
	if u := c.running(name); u != nil && err == nil {
		err = u.up()
	}
	if errors.Is(err, unix.EADDRINUSE) {
		err = fmt.Errorf("%w: end what listens there (`ss -ulpn`), or choose another ListenPort", err)
	}
	if err != nil {
		return fmt.Errorf("configure WireGuard device %s to listen at UDP port %d: %w", name, want.ListenPort, err)
	}
	return nil
}

// SetPeers adds and changes peers, and removes others, in one or two exchanges for all. A
// prefix that another peer had is moved from it at once. A peer that is new on the device is sent a
// handshake now (by a device that is up), so that neither side goes on with the session
// of an earlier run. After an error some of it may have been done: read again.
func (c *Control) SetPeers(name string, set []Peer, remove []Key) error {
	if len(set)+len(remove) == 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	d, err := c.device(name)
	if err != nil {
		return fmt.Errorf("set peers of WireGuard device %s: %w", name, err)
	}
	m := c.memory[name]
	change, then := m.changes(set, remove)
	if err := apply(d, change, then); err != nil {
		delete(c.memory, name)
		return fmt.Errorf("set %d peers of WireGuard device %s and remove %d: %w", len(set), name, len(remove), err)
	}
	c.greets(name, set, m.isNew, remove)
	if m != nil {
		m.told(set, remove)
	}
	return nil
}

// Changed reports whether somebody else may have altered a device since the last call,
// for much less than Read costs. It is true at the first one, and may be true for
// nothing; counters, handshakes and packets from elsewhere are no change of a device in
// this process, and may be one of the kernel's.
func (c *Control) Changed(name string) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := c.running(name)
	if u == nil {
		changed, err := c.kernel.changed(name)
		if err != nil {
			err = fmt.Errorf("look at WireGuard device %s: %w", name, err)
		}
		return changed, err
	}
	u.noteMTU()
	return u.touched(), nil
}

// Userspace reports whether a device runs in this process.
func (c *Control) Userspace(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.running(name) != nil
}

// Stop ends a device that runs in this process. Its TUN device stays.
func (c *Control) Stop(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stop(name)
}

func (c *Control) stop(name string) {
	if u := c.own[name]; u != nil {
		u.stop()
		delete(c.own, name)
		c.forget(name)
	}
}

// forget is for a device that is not there any more.
func (c *Control) forget(name string) {
	delete(c.memory, name)
	delete(c.greeted, name)
}

// Close ends what runs in this process. TUN devices stay, and so do the kernel's devices.
func (c *Control) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.timer != nil {
		c.timer.Stop()
	}
	for name := range c.own {
		c.stop(name)
	}
	c.kernel.close()
}

// running is a device of this process. One whose TUN device was deleted has ended.
func (c *Control) running(name string) *userspace {
	u := c.own[name]
	if u != nil && u.ended() {
		c.stop(name)
		return nil
	}
	return u
}

// isNotThere reports whether an error says that there is no such device.
func isNotThere(err error) bool { return errors.Is(err, fs.ErrNotExist) }
