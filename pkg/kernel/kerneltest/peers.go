package kerneltest

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
	"flanneld/pkg/wgdevice"
)

// editPeers changes the peers of a device. What has been listed before stays as it was.
func (k *Kernel) editPeers(dev string, edit func([]kernel.FoundPeer) []kernel.FoundPeer) {
	e := k.entries[dev]
	e.Peers = edit(slices.Clone(e.Peers))
	k.entries[dev] = e
}

// setPeer takes the peer's subnets from all others.
func (k *Kernel) setPeer(p kernel.Peer, there bool) {
	same := func(x kernel.FoundPeer) bool {
		return x.Key == p.Key && (p.Key != wgdevice.Key{} || x.Allowed == p.Allowed)
	}
	k.editPeers(p.Dev, func(peers []kernel.FoundPeer) []kernel.FoundPeer {
		peers = slices.DeleteFunc(peers, same)
		if !there {
			return peers
		}
		for _, s := range p.Subnets() {
			takeFrom(peers, s)
		}
		return append(peers, kernel.FoundPeer{Peer: p})
	})
}

// takeFrom takes a subnet from whoever has it.
func takeFrom(peers []kernel.FoundPeer, subnet netip.Prefix) {
	for i := range peers {
		if at := &peers[i].Allowed[inet.Of(subnet.Addr()).Index()]; *at == subnet {
			*at = netip.Prefix{}
		}
	}
}

// Leave is what becomes of the devices of user space when the process that served them ends.
func (k *Kernel) Leave() {
	for i := range k.links {
		l := &k.links[i]
		if l.Type != kernel.TAP {
			continue
		}
		k.editPeers(l.Name, func([]kernel.FoundPeer) []kernel.FoundPeer { return nil })
		if l.Kind, l.Unserved = nil, l.Alias == kernel.Alias; l.Unserved {
			l.Kind = kernel.UDP{}
		}
	}
}

// WG is what `wg set` is told of a device, in the form of wg(8), but that keys stand where it
// takes the names of files.
type WG struct {
	Dev     string
	Private wgdevice.Secret // zero: as it is
	Port    int             // 0: as it is

	Peer      wgdevice.Key // zero: nothing of peers
	Remove    bool
	Endpoint  netip.AddrPort // invalid: as it is
	PSK       *wgdevice.Secret
	Keepalive *int           // seconds
	Allowed   []netip.Prefix // in place of those that it had, where Replace
	Replace   bool
}

// ParseWG reads the words of a command after `wg set`.
func ParseWG(words []string) (c WG, err error) {
	o := options(words[1:])
	c.Dev = words[0]
	if text := o["private-key"]; text != "" {
		if c.Private, err = wgdevice.ParseSecret(text); err != nil {
			return c, err
		}
	}
	c.Port = number(o["listen-port"])
	if o["peer"] == "" {
		return c, nil
	}
	if c.Peer, err = wgdevice.ParseKey(o["peer"]); err != nil {
		return c, err
	}
	c.Remove = o["remove"] != ""
	if o["endpoint"] != "" {
		c.Endpoint = netip.MustParseAddrPort(o["endpoint"])
	}
	if text := o["preshared-key"]; text != "" {
		psk, err := wgdevice.ParseSecret(text)
		if err != nil {
			return c, err
		}
		c.PSK = &psk
	}
	if text := o["persistent-keepalive"]; text != "" {
		c.Keepalive = new(number(text))
	}
	text, given := o["allowed-ips"]
	c.Replace = given
	for s := range strings.SplitSeq(strings.Trim(text, `"`), ",") {
		if s != "" {
			c.Allowed = append(c.Allowed, netip.MustParsePrefix(s))
		}
	}
	return c, nil
}

func (k *Kernel) runWG(words []string) error {
	c, err := ParseWG(words)
	if err != nil {
		return err
	}
	l := k.link(c.Dev)
	if l == nil {
		return syscall.ENODEV
	}
	kind, is := l.Kind.(kernel.WireGuard)
	if !is {
		return fmt.Errorf("%s: %w", c.Dev, syscall.EOPNOTSUPP)
	}
	if !c.Private.IsZero() {
		kind.Private = c.Private
	}
	if c.Port != 0 {
		kind.Port = c.Port
	}
	l.Kind = kind
	if !c.Peer.IsZero() {
		k.editPeers(c.Dev, func(peers []kernel.FoundPeer) []kernel.FoundPeer { return c.apply(peers) })
	}
	return nil
}

func (c WG) apply(peers []kernel.FoundPeer) []kernel.FoundPeer {
	same := func(x kernel.FoundPeer) bool { return x.Key == c.Peer }
	if c.Remove {
		return slices.DeleteFunc(peers, same)
	}
	for _, s := range c.Allowed {
		takeFrom(peers, s)
	}
	i := slices.IndexFunc(peers, same)
	if i < 0 {
		i = len(peers)
		peers = append(peers, kernel.FoundPeer{Peer: kernel.Peer{Dev: c.Dev, Peer: wgdevice.Peer{Key: c.Peer}}})
	}
	p := &peers[i]
	if c.Endpoint.IsValid() {
		p.Endpoint = c.Endpoint
	}
	if c.PSK != nil {
		p.PSK = *c.PSK
	}
	if c.Keepalive != nil {
		p.Keepalive = *c.Keepalive
	}
	if c.Replace {
		p.Allowed, p.More = [2]netip.Prefix{}, false
	}
	for _, s := range c.Allowed {
		if at := &p.Allowed[inet.Of(s.Addr()).Index()]; at.IsValid() {
			p.More = true
		} else {
			*at = s
		}
	}
	return peers
}
