package subnet

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"flanneld/pkg/inet"
)

// Config is the cluster's network, as the store's config key describes it and
// one family of addresses sees it.
type Config struct {
	Network     netip.Prefix    // masked; its family is that of all addresses here
	SubnetLen   int             // prefix length of every host's subnet, in bits
	SubnetMin   netip.Addr      // the first subnet that may be leased
	SubnetMax   netip.Addr      // the last one
	BackendType string          // lower case
	Backend     json.RawMessage // the whole Backend object, for its options
	NFTables    bool            // EnableNFTables: rules by nftables rather than iptables

	// Others are networks in which some of the cluster's hosts are, still or already,
	// while it moves from one to the other.
	Others []netip.Prefix
}

// Families are those that the cluster's containers use.
func (c Config) Families() (all []inet.Family) {
	for _, f := range inet.Families() {
		if _, ok := c.For(f); ok {
			all = append(all, f)
		}
	}
	return all
}

// For is the config as a family sees it; false: containers do not use it.
func (c Config) For(f inet.Family) (Config, bool) { return c, c.Network.IsValid() && c.family() == f }

func (c Config) family() inet.Family { return inet.Of(c.Network.Addr()) }

// legible tells whether addresses of a family are read, from the config, leases
// and the subnet file. Nothing behind the parsers depends on it.
func legible(a netip.Addr) bool { return a.IsValid() && inet.Of(a) == inet.IPv4 }

// ParseConfig reads the config key's JSON, fills in what is left out and checks
// the whole. Field names match in any case. Its errors are *FieldError.
func ParseConfig(raw string) (Config, error) {
	var doc struct {
		Network   string
		SubnetLen int
		SubnetMin string
		SubnetMax string
		Backend   json.RawMessage

		EnableNFTables bool
		EnableIPv4     *bool // nil: true
		EnableIPv6     bool
	}
	if len(raw) > LongestValue {
		return Config{}, tooLong(len(raw))
	}
	if err := unmarshal([]byte(raw), &doc); err != nil {
		return Config{}, err
	}
	// Half of what is asked for would be worse than nothing.
	switch {
	case doc.EnableIPv6:
		return Config{}, &FieldError{"EnableIPv6", "true", "asks for IPv6, which is not supported yet: remove the field"}
	case doc.EnableIPv4 != nil && !*doc.EnableIPv4:
		return Config{}, &FieldError{"EnableIPv4", "false", "leaves only IPv6, which is not supported yet: remove the field"}
	}
	c := Config{Backend: doc.Backend, NFTables: doc.EnableNFTables}
	for _, step := range []func() error{
		func() error { return c.setNetwork(doc.Network) },
		func() error { return c.setSubnetLen(doc.SubnetLen) },
		func() error { return c.setRange(doc.SubnetMin, doc.SubnetMax) },
		c.setBackendType,
	} {
		if err := step(); err != nil {
			return Config{}, err
		}
	}
	return c, nil
}

// unusable are the ranges no container may live in (RFC 6890, RFC 5771).
var unusable = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("224.0.0.0/3"),
}

func (c *Config) setNetwork(s string) error {
	if s == "" {
		return &FieldError{Field: "Network", Reason: `is missing: set it to the cluster's range, such as "172.7.0.0/16"`}
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || !legible(p.Addr()) {
		return &FieldError{"Network", s, `is not an IPv4 network such as "172.7.0.0/16"`}
	}
	if longest := inet.Of(p.Addr()).Bits() - 4; p.Bits() > longest {
		return &FieldError{"Network", s, fmt.Sprintf("is too small: it must be a /%d or wider", longest)}
	}
	for _, u := range unusable {
		if u.Overlaps(p) {
			return &FieldError{"Network", s, fmt.Sprintf("overlaps %v, which no container can use", u)}
		}
	}
	c.Network = p.Masked()
	return nil
}

func (c *Config) setSubnetLen(n int) error {
	least, most := c.Network.Bits()+2, c.family().Bits()-2
	switch {
	case n == 0 && c.Network.Bits() <= 22:
		n = 24
	case n == 0:
		n = least
	case n < least:
		return &FieldError{"SubnetLen", fmt.Sprint(n),
			fmt.Sprintf("leaves too few subnets in %v: it must be at least %d", c.Network, least)}
	case n > most:
		return &FieldError{"SubnetLen", fmt.Sprint(n),
			fmt.Sprintf("leaves no room for containers: it must be at most %d", most)}
	}
	c.SubnetLen = n
	return nil
}

func (c *Config) setRange(first, last string) (err error) {
	second, _ := inet.Next(netip.PrefixFrom(c.Network.Addr(), c.SubnetLen)) // of at least four
	if c.SubnetMin, err = c.boundary("SubnetMin", first, second); err != nil {
		return err
	}
	if c.SubnetMax, err = c.boundary("SubnetMax", last, inet.Subnet(inet.Last(c.Network), c.SubnetLen)); err != nil {
		return err
	}
	if c.SubnetMax.Less(c.SubnetMin) {
		return &FieldError{"SubnetMin", c.SubnetMin.String(), fmt.Sprintf("is above SubnetMax %v", c.SubnetMax)}
	}
	return nil
}

// example is an end of the leased range, for who has written none.
var example = map[inet.Family]string{inet.IPv4: "172.7.1.0", inet.IPv6: "fd00:0:0:1::"}

// boundary reads an end of the leased range. Empty means fallback, and so does the
// address that stands for none.
func (c *Config) boundary(field, s string, fallback netip.Prefix) (netip.Addr, error) {
	if s == "" {
		return fallback.Addr(), nil
	}
	a, err := netip.ParseAddr(s)
	if err == nil && inet.Of(a) == c.family() && a.IsUnspecified() {
		return fallback.Addr(), nil
	}
	if err != nil || inet.Of(a) != c.family() {
		return a, &FieldError{field, s, fmt.Sprintf("is not an %v address such as %q", c.family(), example[c.family()])}
	}
	if !c.Network.Contains(a) {
		return a, &FieldError{field, s, fmt.Sprintf("is outside of Network %v", c.Network)}
	}
	if begin := inet.Subnet(a, c.SubnetLen).Addr(); begin != a {
		return a, &FieldError{field, s, fmt.Sprintf("is not the start of a /%d: the nearest is %v", c.SubnetLen, begin)}
	}
	return a, nil
}

func (c *Config) setBackendType() error {
	var backend struct{ Type string }
	err := c.Options(&backend)
	c.BackendType = strings.ToLower(strings.TrimSpace(backend.Type))
	return err
}

// Options reads the Backend object into a struct of the backend's own. Its
// errors are *FieldError.
func (c Config) Options(into any) error {
	if len(c.Backend) == 0 {
		return nil
	}
	err := unmarshal(c.Backend, into)
	var field *FieldError
	if errors.As(err, &field) {
		field.Field = strings.TrimSuffix("Backend."+field.Field, ".")
	}
	return err
}

// MayLease reports whether one of the subnets that may be leased overlaps p.
func (c Config) MayLease(p netip.Prefix) bool {
	last := inet.Last(netip.PrefixFrom(c.SubnetMax, c.SubnetLen))
	return inet.Of(p.Addr()) == c.family() && !inet.Last(p).Less(c.SubnetMin) && !last.Less(p.Masked().Addr())
}

// Outside tells of a subnet that it is none of the network's.
func (c Config) Outside(p netip.Prefix) bool { return !within(c.Network, p) }

func within(network, p netip.Prefix) bool {
	return network.Contains(p.Addr()) && p.Bits() >= network.Bits()
}

// Fits reports whether p is one of the subnets that may be leased.
func (c Config) Fits(p netip.Prefix) bool {
	return p.IsValid() && p.Bits() == c.SubnetLen && p == p.Masked() && c.Network.Contains(p.Addr()) &&
		!p.Addr().Less(c.SubnetMin) && !c.SubnetMax.Less(p.Addr())
}

// Holds reports whether a host can follow c without leaving its subnet, and without
// losing a peer, where another config has been in force.
func (c Config) Holds(former Config, own netip.Prefix) bool {
	return c.SubnetLen == former.SubnetLen && c.Fits(own) &&
		c.Network.Bits() <= former.Network.Bits() && c.Network.Contains(former.Network.Addr())
}

// At is c at the addresses of another config.
func (c Config) At(o Config) Config {
	c.Network, c.SubnetLen, c.SubnetMin, c.SubnetMax = o.Network, o.SubnetLen, o.SubnetMin, o.SubnetMax
	return c
}
