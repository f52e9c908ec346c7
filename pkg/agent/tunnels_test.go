package agent_test

import (
	"crypto/ecdh"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"flanneld/pkg/backend"
	"flanneld/pkg/backend/hostgw"
	"flanneld/pkg/backend/vxlan"
	"flanneld/pkg/kernel"
	"flanneld/pkg/subnet"
	"flanneld/pkg/wgdevice"
)

// keyed is a backend as WireGuard's is: a host lets in nobody whose key it does not know.
type keyed struct {
	host    backend.Host
	network netip.Prefix
	private wgdevice.Secret
	device  string
}

// keyedOptions are those of the config key.
type keyedOptions struct{ PersistentKeepaliveInterval int }

func newKeyed(c subnet.Config, h backend.Host) (backend.Backend, error) {
	if err := c.Options(&keyedOptions{}); err != nil {
		return nil, err
	}
	k := keyed{host: h, network: c.Network, device: "flannel-wg"}
	if h.PrivateKey == nil {
		return k, nil
	}
	var err error
	k.private, err = h.PrivateKey()
	return k, err
}

func publicKey(s wgdevice.Secret) wgdevice.Key {
	private, err := ecdh.X25519().NewPrivateKey(s[:])
	if err != nil {
		panic(err)
	}
	return wgdevice.Key(private.PublicKey().Bytes())
}

func keyOf(l *subnet.Lease) (k wgdevice.Key, has bool) {
	var data struct{ PublicKey string }
	if json.Unmarshal([]byte(l.BackendData), &data) != nil {
		return k, false
	}
	k, err := wgdevice.ParseKey(data.PublicKey)
	return k, err == nil
}

func (k keyed) Attrs() subnet.Attrs {
	return subnet.Attrs{PublicIP: k.host.PublicIP, BackendType: "wireguard", BackendData: k.Endpoint()}
}
func (k keyed) Endpoint() string { return fmt.Sprintf(`{"PublicKey":%q}`, publicKey(k.private)) }
func (k keyed) MTU() int         { return k.host.Link.MTU - 80 }

func (k keyed) Meets(own, peer *subnet.Lease) bool {
	_, ours := keyOf(own)
	_, theirs := keyOf(peer)
	return ours && theirs
}

func (k keyed) Desired(own subnet.Lease, peers []subnet.Lease, around backend.Around) (s kernel.State, paths []backend.Path) {
	s.Devices = []kernel.Device{{
		Name: k.device, MTU: k.MTU(), Kind: kernel.WireGuard{Private: k.private, Port: 51820}, Addrs: addressOf(own, k.network),
	}}
	for i := range peers {
		p := &peers[i]
		key, has := keyOf(p)
		if !has {
			paths = append(paths, plainly(&s, p, k.host.Link.Name, around))
			continue
		}
		s.Peers = append(s.Peers, kernel.Peer{Dev: k.device, Peer: wgdevice.Peer{Key: key, Endpoint: netip.AddrPortFrom(p.PublicIP, 51820), Allowed: wgdevice.PrefixesOf(p.Subnet)}})
		paths = append(paths, through(&s, p, k.device, k.network, around))
	}
	return s, paths
}

func addressOf(own subnet.Lease, network netip.Prefix) kernel.DeviceAddrs {
	return kernel.AddrsOf(kernel.DeviceAddr{
		Prefix: netip.PrefixFrom(own.Subnet.Addr(), own.Subnet.Addr().BitLen()), Network: network, SubnetLen: own.Subnet.Bits(),
	})
}

// plainly reaches a peer on the link as it is.
func plainly(s *kernel.State, p *subnet.Lease, dev string, around backend.Around) backend.Path {
	switch around.OnLink(p.PublicIP) {
	case backend.Yes:
		s.Routes = append(s.Routes, backend.PlainRoute(p, dev))
		return backend.Path{Mode: backend.Direct, Route: int32(len(s.Routes) - 1)}
	case backend.No:
		return backend.Path{Reason: backend.NoEndpoint}
	}
	return backend.Path{Reason: backend.OnLinkUnknown}
}

// through reaches a peer by a device, by one route for all where that may be.
func through(s *kernel.State, p *subnet.Lease, dev string, network netip.Prefix, around backend.Around) backend.Path {
	r := kernel.Route{Dst: p.Subnet, Dev: dev, Peer: p.PublicIP}
	if around.Whole {
		r = kernel.Route{Dst: network, Dev: dev}
	}
	at := slices.Index(s.Routes, r)
	if at < 0 {
		at, s.Routes = len(s.Routes), append(s.Routes, r)
	}
	return backend.Path{Mode: backend.Tunnel, Route: int32(at)}
}

// datagrams is a backend as udp is: a host takes what comes from anybody.
type datagrams struct {
	host    backend.Host
	network netip.Prefix
}

func newDatagrams(c subnet.Config, h backend.Host) (backend.Backend, error) {
	return datagrams{h, c.Network}, c.Options(&struct{}{})
}

func (d datagrams) Attrs() subnet.Attrs {
	return subnet.Attrs{PublicIP: d.host.PublicIP, BackendType: "udp"}
}
func (d datagrams) Endpoint() string { return `{"UDPPort":8285}` }
func (d datagrams) MTU() int         { return d.host.Link.MTU - 28 }

func (d datagrams) Meets(_, peer *subnet.Lease) bool {
	var data struct{ UDPPort int }
	return peer.BackendType == "udp" || json.Unmarshal([]byte(peer.BackendData), &data) == nil && data.UDPPort > 0
}

func (d datagrams) Desired(own subnet.Lease, peers []subnet.Lease, around backend.Around) (s kernel.State, paths []backend.Path) {
	const dev = "flannel0"
	s.Devices = []kernel.Device{{
		Name: dev, MTU: d.MTU(), Kind: kernel.UDP{Local: netip.AddrPortFrom(d.host.Local, 8285)}, Addrs: addressOf(own, d.network),
	}}
	for i := range peers {
		p := &peers[i]
		if !d.Meets(&own, p) {
			paths = append(paths, plainly(&s, p, d.host.Link.Name, around))
			continue
		}
		s.Peers = append(s.Peers, kernel.Peer{Dev: dev, Peer: wgdevice.Peer{Endpoint: netip.AddrPortFrom(p.PublicIP, 8285), Allowed: wgdevice.PrefixesOf(p.Subnet)}})
		paths = append(paths, through(&s, p, dev, d.network, around))
	}
	return s, paths
}

// external is a backend as alloc is: it carries nothing.
type external struct{ backend.Host }

func newExternal(_ subnet.Config, h backend.Host) (backend.Backend, error) { return external{h}, nil }

func (e external) Attrs() subnet.Attrs {
	return subnet.Attrs{PublicIP: e.PublicIP, BackendType: "alloc"}
}
func (external) Endpoint() string              { return "" }
func (external) Meets(_, _ *subnet.Lease) bool { return false }
func (e external) MTU() int                    { return e.Link.MTU }

func (external) Desired(_ subnet.Lease, peers []subnet.Lease, _ backend.Around) (s kernel.State, paths []backend.Path) {
	for range peers {
		paths = append(paths, backend.Path{Mode: backend.External, Route: 4711})
	}
	return s, paths
}

// allBackends are those of the tests: two real ones, and three as others are.
func allBackends() map[string]backend.Factory {
	return map[string]backend.Factory{
		hostgw.Type: hostgw.New, vxlan.Type: vxlan.New, "wireguard": newKeyed, "udp": newDatagrams, "alloc": newExternal,
	}
}

// carriesPeer follows a packet through a device that has a table of peers, to such a device at the other end.
func carriesPeer(from, to *host, sender, receiver *kernel.Link) string {
	mine, _ := from.kernel.Entries(*sender)
	i := slices.IndexFunc(mine.Peers, func(p kernel.FoundPeer) bool { return p.Allowed[0] == to.own })
	switch {
	case i < 0:
		return sender.Name + " knows nobody with " + to.own.String()
	case mine.Peers[i].Endpoint.Addr() != to.ip:
		return fmt.Sprintf("%s leads to %v", sender.Name, mine.Peers[i].Endpoint)
	}
	wants, isKeyed := receiver.Kind.(kernel.WireGuard)
	if !isKeyed {
		return ""
	}
	if mine.Peers[i].Key != publicKey(wants.Private) {
		return sender.Name + " knows another key"
	}
	has, _ := sender.Kind.(kernel.WireGuard)
	theirs, _ := to.kernel.Entries(*receiver)
	if !slices.ContainsFunc(theirs.Peers, func(p kernel.FoundPeer) bool {
		return p.Key == publicKey(has.Private) && p.Allowed[0] == from.own
	}) {
		return receiver.Name + " does not know the sender's key"
	}
	return ""
}

// lagging shows what the store has as it was a moment ago, as over a slow watch, and the config key as an
// operator's old one where this host is to stay behind.
type lagging struct {
	*subnet.Manager
	h *host
}

func (l lagging) Changed() <-chan struct{} {
	if l.h.lag == 0 {
		return l.Manager.Changed()
	}
	return l.h.late
}

func (l lagging) View() subnet.View {
	l.h.mu.Lock()
	defer l.h.mu.Unlock()
	v := l.h.shown
	if l.h.lag == 0 {
		v = l.Manager.View()
	}
	v.Leases = slices.Clone(v.Leases)
	if l.h.stays != "" {
		v.Config, v.ConfigTooLong = l.h.stays, 0
	}
	return v
}

// follow shows the store's changes late until done is closed.
func (l lagging) follow(done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case <-l.Manager.Changed():
		}
		v := l.Manager.View()
		time.Sleep(l.h.lag)
		l.h.mu.Lock()
		l.h.shown = v
		l.h.mu.Unlock()
		select {
		case l.h.late <- struct{}{}:
		default:
		}
	}
}

// stay has the host go by a config of its own; "": by the store's.
func (h *host) stay(config string) {
	h.mu.Lock()
	h.stays = config
	h.mu.Unlock()
	h.changes.signal(false)
}
