// Package status is what a running flanneld tells of itself: a document, how it
// is asked for over the daemon's socket, and how it is shown to people.
package status

import (
	"encoding/json"
	"net/netip"
	"strings"
	"time"

	"flanneld/pkg/condition"
	"flanneld/pkg/subnet"
	"flanneld/pkg/wgdevice"
)

// Status is one host at one moment, or, without a Daemon, what the store alone
// tells. Its JSON is for scripts: names stay, and none is taken away.
type Status struct {
	Time    time.Time `json:"time"`
	Daemon  *Daemon   `json:"daemon,omitempty"`
	Network *Network  `json:"network,omitempty"` // nil: there is no config in force
	Host    *Host     `json:"host,omitempty"`    // nil: no external interface is chosen
	Lease   *Lease    `json:"lease,omitempty"`   // nil: none is held
	Device  *Device   `json:"device,omitempty"`  // nil: packets travel as they are
	Etcd    Etcd      `json:"etcd"`
	Peers   []Peer    `json:"peers"`          // one for each family of a host
	IPv6    *Half     `json:"ipv6,omitempty"` // nil: containers use one family, which all above is about

	Conditions condition.List `json:"conditions"` // what is not as it should be

	Probes  *Probes  `json:"probes,omitempty"`  // nil: the daemon probes no peers
	Changes []Change `json:"changes,omitempty"` // the latest, newest first
}

// Daemon is the process, and what it was told to do.
type Daemon struct {
	Version string    `json:"version"`
	PID     int       `json:"pid"` // as its own PID namespace has it
	Started time.Time `json:"started"`
	Ready   bool      `json:"ready"`
	Reason  string    `json:"reason,omitempty"` // why it is not ready, in a line

	SubnetFile string   `json:"subnet_file"`                  // absolute path
	KeyFile    string   `json:"wireguard_key_file,omitempty"` // absolute path
	IPMasq     bool     `json:"ip_masq"`
	Rules      []string `json:"rules"` // of the firewall that it keeps: as arguments of iptables, or as nft has them

	Applied time.Time `json:"applied,omitzero"` // when the kernel was last found, or made, as it should be
	Changed time.Time `json:"changed,omitzero"` // when something had to be written for that
	Change  string    `json:"change,omitempty"` // what that was, as a command
}

// Network is the config in force.
type Network struct {
	Network   netip.Prefix `json:"network"`
	SubnetLen int          `json:"subnet_len"`       // bits
	Backend   string       `json:"backend"`          // "host-gw", "vxlan"
	Config    string       `json:"config,omitempty"` // the whole, as the config key would hold it
}

// Host is the external interface.
type Host struct {
	Interface string     `json:"interface"`
	Address   netip.Addr `json:"address"`
	PublicIP  netip.Addr `json:"public_ip"` // where peers reach this host; not always an address of it
	MTU       int        `json:"mtu"`       // bytes
}

// Lease is this host's hold on its subnet.
type Lease struct {
	Subnet  netip.Prefix `json:"subnet"`
	Backend string       `json:"backend"`
	Expires time.Time    `json:"expires,omitzero"` // zero: a reservation
	MTU     int          `json:"mtu"`              // of a container's packets, in bytes

	PublicKey string `json:"public_key,omitempty"` // WireGuard's, that peers go by
}

// Device is the end of the tunnel.
type Device struct {
	Name string     `json:"name"`
	VNI  int        `json:"vni"`  // or what else its kind has to tell tunnels apart; 0: nothing
	Port int        `json:"port"` // UDP
	MAC  string     `json:"mac"`
	MTU  int        `json:"mtu"` // bytes
	Addr netip.Addr `json:"address"`

	Protocol      string `json:"protocol,omitempty"` // of its packets between hosts, where that is not UDP: "ipencap"
	ChecksumByCPU bool   `json:"checksum_by_cpu"`

	Kind      string   `json:"kind,omitempty"`       // VXLAN, WireGuard or UDP
	UserSpace bool     `json:"user_space,omitempty"` // the daemon carries its packets itself
	PublicKey string   `json:"public_key,omitempty"` // WireGuard's, in base64
	Traffic   *Traffic `json:"traffic,omitempty"`    // nil: it is not counted
}

// Kinds of devices.
const (
	VXLAN     = "vxlan"
	WireGuard = "wireguard"
	UDP       = "udp"
)

// Alloc is the backend that carries no packets.
const Alloc = "alloc"

// Traffic is what containers have sent and received by a device.
type Traffic struct {
	Sent     uint64            `json:"sent_bytes"`
	Received uint64            `json:"received_bytes"`
	Dropped  map[string]uint64 `json:"dropped_packets,omitempty"` // by the daemon, by the reason
}

// Add adds another device's.
func (t *Traffic) Add(o Traffic) {
	t.Sent, t.Received = t.Sent+o.Sent, t.Received+o.Received
	for reason, n := range o.Dropped {
		t.Dropped[reason] += n
	}
}

// Half is what a Status says of IPv6 beside IPv4.
type Half struct {
	Network *Network `json:"network,omitempty"` // without the config, which is of both
	Host    *Host    `json:"host,omitempty"`
	Lease   *Lease   `json:"lease,omitempty"`
	Device  *Device  `json:"device,omitempty"`
}

// Halves are what is said of each family, IPv4 first.
func (s *Status) Halves() []Half {
	all := []Half{{s.Network, s.Host, s.Lease, s.Device}}
	if s.IPv6 != nil {
		all = append(all, *s.IPv6)
	}
	return all
}

// SetHalves is the reverse.
func (s *Status) SetHalves(all []Half) {
	if len(all) > 0 {
		s.Network, s.Host, s.Lease, s.Device = all[0].Network, all[0].Host, all[0].Lease, all[0].Device
	}
	if len(all) > 1 {
		s.IPv6 = &all[1]
	}
}

// Etcd is the store.
type Etcd struct {
	Endpoints []string `json:"endpoints"`
	Prefix    string   `json:"prefix"`
	API       string   `json:"api,omitempty"`      // in use: "v2", "v3"
	Member    string   `json:"member,omitempty"`   // that answered last
	Current   bool     `json:"current"`            // what is known of it is recent
	KeyFile   string   `json:"key_file,omitempty"` // absolute paths
	CertFile  string   `json:"cert_file,omitempty"`
	CAFile    string   `json:"ca_file,omitempty"`

	Read time.Time `json:"read,omitzero"` // what it held until then is known
}

// Ways in which packets get to a peer.
const (
	Direct = "direct" // as they are, over the common link
	Tunnel = "tunnel"
	NoWay  = "none"

	External = "external" // by what the operator has: backend alloc
)

// MTU is that of containers, whose packets go by any family: what all carry, in bytes. 0:
// no lease is held.
func (s *Status) MTU() (mtu int) {
	for _, h := range s.Halves() {
		if h.Lease != nil && (mtu == 0 || h.Lease.MTU < mtu) {
			mtu = h.Lease.MTU
		}
	}
	return mtu
}

// Peer is another host, as one family sees it. Those of one host have the same Key. What
// follows Outside is known to a daemon only.
type Peer struct {
	Subnet        netip.Prefix `json:"subnet"`
	PublicIP      netip.Addr   `json:"public_ip"` // invalid: the host says none of the subnet's family
	Backend       string       `json:"backend"`
	Expires       time.Time    `json:"expires,omitzero"`         // zero: a reservation
	ExpiryUnknown bool         `json:"expiry_unknown,omitempty"` // Expires is the latest that can be: more is not known
	Key           string       `json:"key,omitempty"`            // in etcd, where it is not that of the subnet alone
	Outside       bool         `json:"outside,omitempty"`        // of the network

	Mode   string     `json:"mode,omitempty"`
	Via    netip.Addr `json:"via,omitzero"` // the gateway of the route
	Dev    string     `json:"dev,omitempty"`
	MAC    string     `json:"mac,omitempty"`    // of its VTEP, where Mode is Tunnel
	Kernel string     `json:"kernel,omitempty"` // InPlace, or what is wrong there
	Since  time.Time  `json:"since,omitzero"`   // that this has been the way

	// Of a tunnel whose device has a table of hosts of its own.
	Route     netip.Prefix   `json:"route,omitzero"`       // that leads there, where it is not to the subnet alone
	Endpoint  netip.AddrPort `json:"endpoint,omitzero"`    // where datagrams for it go
	PublicKey string         `json:"public_key,omitempty"` // of WireGuard, by its lease
	Session   *Session       `json:"session,omitempty"`    // WireGuard's; nil: the device has no such peer
}

// Session is WireGuard's with a peer.
type Session struct {
	Handshake time.Time `json:"handshake,omitzero"` // the last one's; zero: there was none
	Sent      int64     `json:"sent_bytes"`         // handshakes included
	Received  int64     `json:"received_bytes"`
}

// Right reports whether packets get to a peer as they should, as far as that is flanneld's affair.
func (p Peer) Right() bool { return p.Kernel == InPlace || p.Mode == External }

// NewPeer is what a lease, as one family sees it, says of its host.
func NewPeer(l subnet.Lease) Peer {
	p := Peer{
		Subnet: l.Subnet, PublicIP: l.PublicIP, Backend: l.BackendType,
		Expires: l.Expires, ExpiryUnknown: l.ExpiryUnknown, PublicKey: PublicKeyOf(l.BackendData),
	}
	if l.Key != subnet.Key(l.Subnet) {
		p.Key = l.Key
	}
	return p
}

// PublicKeyOf is WireGuard's key that a lease's data names; "": none.
func PublicKeyOf(data string) string {
	var of struct{ PublicKey string }
	if !strings.Contains(strings.ToLower(data), "publickey") || json.Unmarshal([]byte(data), &of) != nil {
		return ""
	}
	key, err := wgdevice.ParseKey(of.PublicKey)
	if err != nil || key.IsZero() {
		return ""
	}
	return key.String()
}

// Of finds the peer that a subnet or an address belongs to.
func (s Status) Of(ip netip.Addr) (Peer, bool) {
	for _, p := range s.Peers {
		if p.PublicIP == ip || p.Subnet.Contains(ip) {
			return p, true
		}
	}
	return Peer{}, false
}
