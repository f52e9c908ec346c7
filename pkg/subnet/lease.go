package subnet

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"flanneld/pkg/inet"
)

// What lies below the prefix: the config's key, and the directory of the leases.
const (
	ConfigKey = "config"
	LeaseDir  = "subnets"
	APIKey    = "api" // of etcdauto
)

// Attrs is what a lease says of its holder: how and where peers reach it.
// Values compare with ==.
type Attrs struct {
	PublicIP    netip.Addr // the address peers reach the host at
	BackendType string     // "host-gw", "vxlan"
	BackendData string     // what the backend adds, as compact JSON; empty: nothing
}

// IPv6Half is what a dual-stack lease says of its IPv6 half, as JSON. It is kept as
// it is: flannel, should it come back, knows its lease by it.
type IPv6Half struct {
	PublicIP    string // empty: nothing
	BackendData string // empty: nothing
}

// Lease is a host's hold on one subnet of the cluster's network. It is known by its
// key: two keys may name the same subnet.
type Lease struct {
	Attrs
	Key           string // below the prefix
	Subnet        netip.Prefix
	IPv6          IPv6Half  // of a dual-stack key
	Expires       time.Time // zero: a reservation, which never expires
	ExpiryUnknown bool      // when it expires is unknown: Expires is the latest that can be
	Created       uint64    // index in the store at which the key came to be
	Modified      uint64    // index in the store of the last write
}

// For is the lease as a family sees it; false: its host does not use it.
func (l Lease) For(f inet.Family) (Lease, bool) {
	return l, l.Subnet.IsValid() && inet.Of(l.Subnet.Addr()) == f
}

// Ends is when the lease ends, for the log.
func (l Lease) Ends() string {
	switch {
	case l.Expires.IsZero():
		return "never, it is a reservation"
	case l.ExpiryUnknown:
		return "unknown"
	}
	return l.Expires.Format(time.RFC3339)
}

// older tells which of two leases came first: of those of one subnet, the holder's.
func older(a, b *Lease) bool {
	return cmp.Or(cmp.Compare(a.Created, b.Created), strings.Compare(a.Key, b.Key)) < 0
}

// Value is what the lease's key holds where its host says this of itself.
func (l *Lease) Value(a Attrs) string { return a.marshal(l.IPv6) }

// Key is the place below the prefix of a lease that we make: "subnets/172.7.21.0-24".
func Key(subnet netip.Prefix) string {
	return LeaseDir + "/" + subnet.Addr().String() + "-" + strconv.Itoa(subnet.Bits())
}

// ParseKey is the IPv4 subnet that a lease's key names. It is Key's inverse, and reads
// flannel's dual-stack keys too: "subnets/172.7.21.0-24&fc00:7:0:21::-64". Of a lease
// without IPv4, "subnets/0.0.0.0-0&fc00:7:0:21::-64", it is the zero Prefix.
func ParseKey(key string) (netip.Prefix, error) {
	name, ok := strings.CutPrefix(key, LeaseDir+"/")
	half, other, dual := strings.Cut(name, DualStack)
	p, err := parseHalf(half)
	ok = ok && err == nil && legible(p.Addr()) && p == p.Masked()
	if dual { // whatever the other half is: the IPv4 half is taken
		six, err := parseHalf(other)
		ok = ok && err == nil && six.Addr().Is6()
	}
	switch {
	case !ok:
		return netip.Prefix{}, fmt.Errorf("must name an IPv4 subnet in the form %s/172.7.21.0-24", LeaseDir)
	case dual && p.Bits() == 0:
		return netip.Prefix{}, nil
	}
	return p, nil
}

// DualStack is between the two subnets of a key.
const DualStack = "&"

func parseHalf(s string) (netip.Prefix, error) {
	addr, bits, _ := strings.Cut(s, "-")
	return netip.ParsePrefix(addr + "/" + bits) // which takes neither zeros nor signs in front
}

// isDual tells of a lease's key whether it names two subnets.
func isDual(key string) bool { return strings.Contains(key, DualStack) }

// wireAttrs has the fields of a lease's JSON in the order in which they are
// written.
type wireAttrs struct {
	PublicIP      string
	PublicIPv6    json.RawMessage `json:",omitempty"`
	BackendType   string
	BackendData   json.RawMessage `json:",omitempty"`
	BackendV6Data json.RawMessage `json:",omitempty"`
}

// Marshal is the value of a lease's key, in one line.
func (a Attrs) Marshal() string { return a.marshal(IPv6Half{}) }

func (a Attrs) marshal(six IPv6Half) string {
	out, err := json.Marshal(wireAttrs{
		a.PublicIP.String(), json.RawMessage(six.PublicIP),
		a.BackendType, json.RawMessage(a.BackendData), json.RawMessage(six.BackendData),
	})
	if err != nil { // only BackendData that is not JSON leads here
		panic(fmt.Sprintf("lease of %v: backend data is not JSON: %v", a.PublicIP, err))
	}
	return string(out)
}

// ParseAttrs reads the value of a lease's key. It is data from outside: an
// address that no peer can be reached at is an error.
func ParseAttrs(value string) (Attrs, error) {
	a, _, err := parseValue(value)
	return a, err
}

func parseValue(value string) (a Attrs, six IPv6Half, err error) {
	var wire wireAttrs
	if len(value) > LongestValue {
		return a, six, tooLong(len(value))
	}
	if err := unmarshal([]byte(value), &wire); err != nil {
		return a, six, err
	}
	ip, err := netip.ParseAddr(wire.PublicIP)
	if err != nil || !legible(ip) {
		return a, six, &FieldError{"PublicIP", wire.PublicIP, "is not an IPv4 address"}
	}
	for _, u := range unusable {
		if u.Contains(ip) {
			return a, six, &FieldError{"PublicIP", wire.PublicIP, fmt.Sprintf("lies in %v, where no host can be reached", u)}
		}
	}
	a = Attrs{PublicIP: ip, BackendType: strings.ToLower(wire.BackendType), BackendData: compact(wire.BackendData)}
	return a, IPv6Half{compact(wire.PublicIPv6), compact(wire.BackendV6Data)}, nil
}

// compact is JSON in its shortest form; empty where it says nothing.
func compact(raw json.RawMessage) string {
	var short bytes.Buffer
	if err := json.Compact(&short, raw); err != nil || short.String() == "null" {
		return ""
	}
	return short.String()
}

// parseLease reads a lease's entry as it was received at now.
func parseLease(e Entry, now time.Time) (Lease, error) {
	subnet, err := ParseKey(e.Key)
	if err != nil {
		return Lease{}, err
	}
	value, err := e.Text()
	if err != nil {
		return Lease{}, err
	}
	attrs, six, err := parseValue(value)
	if err != nil {
		return Lease{}, err
	}
	if !isDual(e.Key) {
		six = IPv6Half{}
	}
	return Lease{
		Attrs: attrs, Key: e.Key, Subnet: subnet, IPv6: six, Expires: expiry(e, now), ExpiryUnknown: e.TTL == UnknownTTL,
		Created: e.Created, Modified: e.Modified,
	}, nil
}

// expiry counts from now on this host's clock: the store's clock may differ.
func expiry(e Entry, now time.Time) time.Time {
	switch e.TTL {
	case 0:
		return time.Time{}
	case UnknownTTL:
		return now.Add(LeaseTTL)
	}
	return now.Add(e.TTL)
}
