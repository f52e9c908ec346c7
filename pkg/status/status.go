// Package status is what a running flanneld tells of itself: a document, how it
// is asked for over the daemon's socket, and how it is shown to people.
package status

import (
	"net/netip"
	"time"

	"flanneld/pkg/condition"
	"flanneld/pkg/subnet"
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
}

// Daemon is the process, and what it was told to do.
type Daemon struct {
	Version string    `json:"version"`
	PID     int       `json:"pid"` // as its own PID namespace has it
	Started time.Time `json:"started"`
	Ready   bool      `json:"ready"`
	Reason  string    `json:"reason,omitempty"` // why it is not ready, in a line

	SubnetFile string   `json:"subnet_file"` // absolute path
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
}

// NewPeer is what a lease, as one family sees it, says of its host.
func NewPeer(l subnet.Lease) Peer {
	p := Peer{
		Subnet: l.Subnet, PublicIP: l.PublicIP, Backend: l.BackendType,
		Expires: l.Expires, ExpiryUnknown: l.ExpiryUnknown,
	}
	if l.Key != subnet.Key(l.Subnet) {
		p.Key = l.Key
	}
	return p
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
