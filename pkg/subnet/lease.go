package subnet

import (
	"bytes"
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

// Lease is a host's hold on one subnet of the cluster's network.
type Lease struct {
	Attrs
	Subnet        netip.Prefix
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

// Key is the lease's place below the prefix: "subnets/172.7.21.0-24".
func Key(subnet netip.Prefix) string {
	return LeaseDir + "/" + subnet.Addr().String() + "-" + strconv.Itoa(subnet.Bits())
}

// ParseKey is Key's inverse. It takes the one exact form of each key, so that
// no two keys stand for the same subnet.
func ParseKey(key string) (netip.Prefix, error) {
	name, ok := strings.CutPrefix(key, LeaseDir+"/")
	addr, bits, _ := strings.Cut(name, "-")
	p, err := netip.ParsePrefix(addr + "/" + bits) // which takes neither zeros nor signs in front
	if !ok || err != nil || !legible(p.Addr()) || p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf("the key must name an IPv4 subnet in the form %s/172.7.21.0-24", LeaseDir)
	}
	return p, nil
}

// wireAttrs has the fields of a lease's JSON in the order in which they are
// written.
type wireAttrs struct {
	PublicIP    string
	BackendType string
	BackendData json.RawMessage `json:",omitempty"`
}

// Marshal is the value of a lease's key, in one line.
func (a Attrs) Marshal() string {
	out, err := json.Marshal(wireAttrs{a.PublicIP.String(), a.BackendType, json.RawMessage(a.BackendData)})
	if err != nil { // only BackendData that is not JSON leads here
		panic(fmt.Sprintf("lease of %v: backend data is not JSON: %v", a.PublicIP, err))
	}
	return string(out)
}

// ParseAttrs reads the value of a lease's key. It is data from outside: an
// address that no peer can be reached at is an error.
func ParseAttrs(value string) (Attrs, error) {
	var wire wireAttrs
	if len(value) > LongestValue {
		return Attrs{}, tooLong(len(value))
	}
	if err := unmarshal([]byte(value), &wire); err != nil {
		return Attrs{}, err
	}
	ip, err := netip.ParseAddr(wire.PublicIP)
	if err != nil || !legible(ip) {
		return Attrs{}, &FieldError{"PublicIP", wire.PublicIP, "is not an IPv4 address"}
	}
	for _, u := range unusable {
		if u.Contains(ip) {
			return Attrs{}, &FieldError{"PublicIP", wire.PublicIP, fmt.Sprintf("lies in %v, where no host can be reached", u)}
		}
	}
	a := Attrs{PublicIP: ip, BackendType: strings.ToLower(wire.BackendType)}
	var data bytes.Buffer
	if err := json.Compact(&data, wire.BackendData); err == nil && data.String() != "null" {
		a.BackendData = data.String()
	}
	return a, nil
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
	attrs, err := ParseAttrs(value)
	if err != nil {
		return Lease{}, err
	}
	return Lease{
		Attrs: attrs, Subnet: subnet, Expires: expiry(e, now), ExpiryUnknown: e.TTL == UnknownTTL,
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
