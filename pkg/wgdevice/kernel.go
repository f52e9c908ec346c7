package wgdevice

import (
	"io/fs"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// kernelDevices are those that the kernel runs.
type kernelDevices struct {
	client *wgctrl.Client // nil: not opened yet
	dump   *dump          // nil: not opened yet
	hashes map[string]uint64
}

// device finds one. wgctrl would also find any process's by its socket, of whatever
// network namespace; so the kernel is asked first.
func (k *kernelDevices) device(name string) (engine, error) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		if _, none := err.(netlink.LinkNotFoundError); none {
			err = fs.ErrNotExist
		}
		return nil, err
	}
	if link.Type() != "wireguard" {
		return nil, fs.ErrNotExist
	}
	return kernelDevice{k, name}, nil
}

// open makes a client. One that was made before the kernel had WireGuard does not find it.
func (k *kernelDevices) open() (err error) {
	if k.client == nil {
		k.client, err = wgctrl.New()
	}
	return err
}

func (k *kernelDevices) close() {
	k.closeClient()
	k.dump.close()
	k.dump, k.hashes = nil, nil
}

func (k *kernelDevices) closeClient() {
	if k.client != nil {
		_ = k.client.Close()
		k.client = nil
	}
}

// do calls a method of the client, and once more with a new one where that knows nothing
// of a device that is there.
func (k *kernelDevices) do(call func(*wgctrl.Client) error) error {
	for again := true; ; again = false {
		if err := k.open(); err != nil {
			return err
		}
		err := call(k.client)
		if !again || !isNotThere(err) {
			return err
		}
		k.closeClient()
	}
}

type kernelDevice struct {
	in   *kernelDevices
	name string
}

func (d kernelDevice) configure(change wgtypes.Config) error {
	return d.in.do(func(c *wgctrl.Client) error { return c.ConfigureDevice(d.name, change) })
}

func (kernelDevice) edits() int64 { return 0 }

func (d kernelDevice) read() (s Settings, peers []FoundPeer, err error) {
	var found *wgtypes.Device
	err = d.in.do(func(c *wgctrl.Client) error {
		found, err = c.Device(d.name)
		if err == nil && found.Type != wgtypes.LinuxKernel {
			return fs.ErrNotExist // a process's of the same name, by a client that does not know the kernel's
		}
		return err
	})
	if err != nil {
		return s, nil, err
	}
	s = Settings{Private: Secret(found.PrivateKey), ListenPort: found.ListenPort}
	peers = make([]FoundPeer, len(found.Peers))
	for i := range found.Peers {
		peers[i] = fromWgctrl(&found.Peers[i])
	}
	return s, peers, nil
}

func fromWgctrl(p *wgtypes.Peer) (f FoundPeer) {
	f.Key, f.PSK = Key(p.PublicKey), Secret(p.PresharedKey)
	f.Keepalive = int(p.PersistentKeepaliveInterval.Seconds())
	f.Received, f.Sent = p.ReceiveBytes, p.TransmitBytes
	if !p.LastHandshakeTime.IsZero() && p.LastHandshakeTime.UnixNano() != 0 {
		f.LastHandshake = p.LastHandshakeTime
	}
	if p.Endpoint != nil {
		a := p.Endpoint.AddrPort()
		f.Endpoint = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	}
	for _, n := range p.AllowedIPs {
		addr, ok := netip.AddrFromSlice(n.IP)
		if bits, of := n.Mask.Size(); ok && of > 0 {
			f.allow(netip.PrefixFrom(addr.Unmap(), bits))
		}
	}
	return f
}
