package wgdevice

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/device"
	wgtun "golang.zx2c4.com/wireguard/tun"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
	"k8s.io/klog/v2"

	"flanneld/pkg/tun"
)

// userspace is a device that wireguard-go runs in this process, on a TUN device.
type userspace struct {
	name   string
	tun    *tunDevice
	device *device.Device
	buffer bytes.Buffer // of the last answer

	holding *holding // nil: it waits for nobody

	socket  *net.UnixListener // nil: there is none
	serving sync.WaitGroup
	clients clients
	edited  atomic.Int64 // requests to change it that came by the socket
	seen    int64        // of edited, at the last call of touched
}

// StartUserspace runs a WireGuard device in this process, on the TUN device of that
// name, which is made where it is not there, and outlives the process. wg(8) finds
// it where its socket can be made. Where it runs already the MTU alone (bytes) is set.
// The interface is not set up; the device works from the first Configure on.
func (c *Control) StartUserspace(name string, mtu int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if u := c.running(name); u != nil {
		return u.setMTU(mtu)
	}
	u, err := startUserspace(name, mtu)
	if err != nil {
		return fmt.Errorf("run WireGuard device %s in user space: %w", name, err)
	}
	c.forget(name)
	c.own[name] = u
	return nil
}

func startUserspace(name string, mtu int) (*userspace, error) {
	inner, err := openTUN(name)
	if err != nil {
		return nil, err
	}
	u := &userspace{name: name, seen: -1, tun: &tunDevice{Device: inner, events: make(chan wgtun.Event, 1)}}
	if err := errors.Join(u.setMTU(mtu), u.lengthen()); err != nil {
		return nil, errors.Join(err, u.tun.Close())
	}
	u.device = device.NewDevice(u.tun, newBind(), logger(name))
	if err := u.listen(); err != nil {
		klog.InfoS("wg(8) cannot see the WireGuard device in this process", "device", name, "err", err)
	}
	return u, nil
}

// openTUN attaches to the TUN device. It is not wireguard-go's business whether the
// interface is up: that would end all sessions, and be heard of too late.
func openTUN(name string) (wgtun.Device, error) {
	file, err := tun.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var fd int
	raw, err := file.SyscallConn()
	if err == nil {
		err = raw.Control(func(of uintptr) { fd, err = unix.FcntlInt(of, unix.F_DUPFD_CLOEXEC, 0) })
	}
	if err != nil {
		return nil, fmt.Errorf("attach to TUN device %s: %w", name, err)
	}
	inner, err := hand(fd)
	if err != nil {
		return nil, fmt.Errorf("attach to TUN device %s: %w", name, err)
	}
	return inner, nil
}

// hand gives a descriptor to wireguard-go. Where that fails, as where the device has gone by then,
// it leaves behind an os.File of the descriptor, and the garbage collector closes that at some
// time, whatever has the number then: so the number is kept for it, and what it stood for let go.
func hand(fd int) (wgtun.Device, error) {
	inner, _, err := wgtun.CreateUnmonitoredTUNFromFD(fd)
	if err == nil {
		return inner, nil
	}
	nothing, openErr := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if openErr != nil {
		return nil, errors.Join(err, openErr)
	}
	defer unix.Close(nothing)
	return nil, errors.Join(err, unix.Dup3(nothing, fd, unix.O_CLOEXEC))
}

// up begins to listen.
func (u *userspace) up() error { return u.device.Up() }

// ended reports whether the device has stopped by itself, as it does when its TUN device
// is deleted.
func (u *userspace) ended() bool {
	select {
	case <-u.device.Wait():
		return true
	default:
		return false
	}
}

func (u *userspace) stop() {
	u.unlisten()
	u.device.Close()
	<-u.device.Wait()
}

func (u *userspace) read() (Settings, []FoundPeer, error) {
	u.noteMTU()
	u.buffer.Reset()
	if err := u.device.IpcGetOperation(&u.buffer); err != nil {
		return Settings{}, nil, err
	}
	s, peers, err := parseDevice(u.buffer.Bytes())
	clear(u.buffer.Bytes()) // it has the keys
	return s, peers, err
}

func (u *userspace) configure(change wgtypes.Config) error {
	var request bytes.Buffer
	appendConfig(&request, change)
	defer clear(request.Bytes())
	return u.device.IpcSetOperation(bytes.NewReader(request.Bytes()))
}

// touched reports whether somebody has used the socket to change the device since the last
// call.
func (u *userspace) touched() bool {
	before := u.seen
	u.seen = u.edits()
	return u.seen != before
}

func (u *userspace) edits() int64 { return u.edited.Load() }
