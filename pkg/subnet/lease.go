package subnet

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
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
	PublicIP    netip.Addr // the address peers reach the host at, by the lease's first family
	BackendType string     // "host-gw", "vxlan"
	BackendData string     // what the backend adds, as compact JSON; empty: nothing
	IPv6        Endpoint   // the same beside IPv4; zero: there is none
}

// Endpoint is how and where peers reach a host by packets of one family.
type Endpoint struct {
	PublicIP    netip.Addr
	BackendData string
}

// set puts e in the place of the first family's.
func (a *Attrs) set(e Endpoint) { a.PublicIP, a.BackendData = e.PublicIP, e.BackendData }

// Type is that of the backend that the lease speaks of: flannel's default names none.
func (a *Attrs) Type() string { return cmp.Or(a.BackendType, defaultBackend) }

func (a Attrs) first() Endpoint { return Endpoint{a.PublicIP, a.BackendData} }

// Lease is a host's hold on a subnet of the cluster's network, or on one of each family.
// It is known by its key: two keys may name the same subnet.
type Lease struct {
	Attrs
	Key           string       // below the prefix
	Subnet        netip.Prefix // of the first family
	IPv6Subnet    netip.Prefix // beside IPv4; invalid: there is none
	Expires       time.Time    // zero: a reservation, which never expires
	ExpiryUnknown bool         // when it expires is unknown: Expires is the latest that can be
	Created       uint64       // index in the store at which the key came to be
	Modified      uint64       // index in the store of the last write
}

// For is the lease as a family sees it; false: it has no subnet of that family. It may
// lack an endpoint. Of the other family it keeps the address alone, as IPv6's whichever that is:
// a tunnel of one family may carry packets of both.
func (l Lease) For(f inet.Family) (Lease, bool) {
	switch {
	case !l.Subnet.IsValid():
		return Lease{}, false
	case inet.Of(l.Subnet.Addr()) == f:
		l.IPv6Subnet, l.IPv6 = netip.Prefix{}, Endpoint{PublicIP: l.IPv6.PublicIP}
		return l, true
	case f == inet.IPv6 && l.IPv6Subnet.IsValid():
		other := l.PublicIP
		l.set(l.IPv6)
		l.Subnet, l.IPv6Subnet, l.IPv6 = l.IPv6Subnet, netip.Prefix{}, Endpoint{PublicIP: other}
		return l, true
	}
	return Lease{}, false
}

// only is the lease with none but these of its subnets.
func (l Lease) only(these Subnets) Lease {
	if s := l.Subnets(); s == these || !s.dual() {
		return l
	}
	for _, p := range these.All() {
		l, _ = l.For(inet.Of(p.Addr()))
		l.IPv6 = Endpoint{}
	}
	return l
}

// Subnets are both.
func (l *Lease) Subnets() Subnets { return SubnetsOf(l.Subnet, l.IPv6Subnet) }

// Of is where a host is reached by a family; false: nowhere.
func (a Attrs) Of(f inet.Family) (Endpoint, bool) {
	e := a.first()
	if f == inet.IPv6 && a.IPv6.PublicIP.IsValid() {
		e = a.IPv6
	}
	return e, e.PublicIP.IsValid() && inet.Of(e.PublicIP) == f
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

// Says reports whether the lease says this of its host, as far as a lease of its
// subnets can.
func (l *Lease) Says(a Attrs) bool { return l.Attrs == l.merge(a) }

// Value is what the lease's key holds where its host says this of itself.
func (l *Lease) Value(a Attrs) string { return l.merge(a).Marshal() }

// merge is a in the form of the lease: one of a single family has no place for the
// other, and what a dual-stack one says of IPv6 stays where its host does not use that
// now. Flannel, should it come back, knows its lease by it.
func (l *Lease) merge(a Attrs) Attrs {
	dual := l.Subnets().dual()
	switch {
	case !dual && !l.Subnet.IsValid():
	case !dual:
		if e, ok := a.Of(inet.Of(l.Subnet.Addr())); ok {
			a.set(e)
		}
		a.IPv6 = Endpoint{}
	case !a.IPv6.PublicIP.IsValid() && inet.Of(a.PublicIP) == inet.IPv6: // containers use IPv6 alone
		a.IPv6 = a.first()
		a.set(l.first())
	case !a.IPv6.PublicIP.IsValid():
		a.IPv6 = l.IPv6
	}
	return a
}

// wireAttrs has the fields of a lease's JSON in the order in which they are
// written.
type wireAttrs struct {
	PublicIP      string
	PublicIPv6    json.RawMessage `json:",omitempty"` // a string
	BackendType   string          `json:",omitempty"` // flannel's udp and alloc write none
	BackendData   json.RawMessage `json:",omitempty"`
	BackendV6Data json.RawMessage `json:",omitempty"`
}

// Marshal is the value of a lease's key, in one line. Where there is no IPv4, PublicIP
// says so.
func (a Attrs) Marshal() string {
	four, six := a.first(), a.IPv6
	if inet.Of(four.PublicIP) == inet.IPv6 {
		four, six = Endpoint{PublicIP: netip.IPv4Unspecified()}, four
	}
	wire := wireAttrs{
		PublicIP: four.PublicIP.String(), BackendType: a.BackendType,
		BackendData: json.RawMessage(four.BackendData), BackendV6Data: json.RawMessage(six.BackendData),
	}
	if six.PublicIP.IsValid() {
		wire.PublicIPv6 = fmt.Appendf(nil, "%q", six.PublicIP)
	}
	out, err := json.Marshal(wire)
	if err != nil { // only BackendData that is not JSON leads here
		panic(fmt.Sprintf("lease of %v: backend data is not JSON: %v", a.PublicIP, err))
	}
	return string(out)
}

// ParseAttrs reads the value of a lease's key. It is data from outside: an
// address that no peer can be reached at is an error. What is wrong with IPv6 takes
// nothing away from IPv4.
func ParseAttrs(value string) (a Attrs, err error) {
	var wire wireAttrs
	if len(value) > LongestValue {
		return a, tooLong(len(value))
	}
	if err := unmarshal([]byte(value), &wire); err != nil {
		return a, err
	}
	a.BackendType = strings.ToLower(wire.BackendType)
	var text string
	if len(wire.PublicIPv6) > 0 && json.Unmarshal(wire.PublicIPv6, &text) == nil && text != "" {
		a.IPv6.PublicIP, err = parsePublicIP("PublicIPv6", text, inet.IPv6)
		a.IPv6.BackendData = compact(wire.BackendV6Data)
		switch alone := wire.PublicIP == "" || wire.PublicIP == none.Addr().String(); {
		case alone:
			a.set(a.IPv6)
			a.IPv6 = Endpoint{}
			return a, err
		case err != nil:
			a.IPv6 = Endpoint{}
		}
	}
	a.BackendData = compact(wire.BackendData)
	a.PublicIP, err = parsePublicIP("PublicIP", wire.PublicIP, inet.IPv4)
	return a, err
}

func parsePublicIP(field, text string, f inet.Family) (netip.Addr, error) {
	ip, err := netip.ParseAddr(text)
	if err != nil || inet.Of(ip) != f || ip.Zone() != "" {
		return ip, &FieldError{field, text, fmt.Sprintf("is not an %v address", f)}
	}
	for _, u := range unusable {
		if u.Contains(ip) {
			return ip, &FieldError{field, text, fmt.Sprintf("lies in %v, where no host can be reached", u)}
		}
	}
	return ip, nil
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
	subnets, err := ParseKey(e.Key)
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
	l := Lease{
		Attrs: attrs, Key: e.Key, Subnet: subnets.First(), Expires: expiry(e, now), ExpiryUnknown: e.TTL == UnknownTTL,
		Created: e.Created, Modified: e.Modified,
	}
	if subnets.dual() {
		l.IPv6Subnet = subnets.Of(inet.IPv6)
	}
	first := inet.Of(l.Subnet.Addr())
	if _, ok := attrs.Of(first); !ok {
		return Lease{}, fmt.Errorf("says nowhere where its host is reached by %v", first)
	}
	l.Attrs = l.merge(attrs)
	return l, nil
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
