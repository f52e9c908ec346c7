package subnet

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"flanneld/pkg/inet"
)

// Config is the cluster's network, as the store's config key describes it.
type Config struct {
	Range                       // of the first family that containers use: IPv4's where they use that
	Second      Range           // of IPv6 beside IPv4; zero: containers use one family
	BackendType string          // lower case
	Backend     json.RawMessage // the whole Backend object, for its options
	NFTables    bool            // EnableNFTables: rules by nftables rather than iptables

	// Others are networks in which some of the cluster's hosts are, still or already,
	// while it moves from one to the other.
	Others []netip.Prefix
}

// Range is what hosts' subnets of one family are leased from.
type Range struct {
	Network   netip.Prefix // masked; its family is that of all addresses here
	SubnetLen int          // prefix length of every host's subnet, in bits
	SubnetMin netip.Addr   // the first subnet that may be leased
	SubnetMax netip.Addr   // the last one
}

// Families are those that the cluster's containers use.
func (c Config) Families() (all []inet.Family) {
	for _, r := range c.ranges() {
		if r.Network.IsValid() {
			all = append(all, r.family())
		}
	}
	return all
}

// ranges are those of both families, IPv4's first.
func (c *Config) ranges() [2]Range { return [2]Range{c.Range, c.Second} }

// Networks are those of all families.
func (c Config) Networks() []netip.Prefix { return SubnetsOf(c.Network, c.Second.Network).All() }

// For is the config as a family sees it; false: containers do not use it.
func (c Config) For(f inet.Family) (Config, bool) {
	for _, r := range c.ranges() {
		if r.Network.IsValid() && r.family() == f {
			c.Range, c.Second = r, Range{}
			return c, true
		}
	}
	return c, false
}

// Only is the config without families that are not among these.
func (c Config) Only(families []inet.Family) Config {
	var left []Range
	for _, r := range c.ranges() {
		if r.Network.IsValid() && slices.Contains(families, r.family()) {
			left = append(left, r)
		}
	}
	left = append(left, Range{}, Range{})
	c.Range, c.Second = left[0], left[1]
	return c
}

func (c Range) family() inet.Family { return inet.Of(c.Network.Addr()) }

// ParseConfig reads the config key's JSON, fills in what is left out and checks
// the whole. Field names match in any case. Its errors are *FieldError.
func ParseConfig(raw string) (Config, error) {
	var doc struct {
		EnableIPv4 *bool // nil: true
		Network    string
		SubnetLen  int
		SubnetMin  string
		SubnetMax  string

		EnableIPv6    bool
		IPv6Network   string
		IPv6SubnetLen int
		IPv6SubnetMin string
		IPv6SubnetMax string

		EnableNFTables bool
		Backend        json.RawMessage
	}
	if len(raw) > LongestValue {
		return Config{}, tooLong(len(raw))
	}
	if err := unmarshal([]byte(raw), &doc); err != nil {
		return Config{}, err
	}
	c := Config{Backend: doc.Backend, NFTables: doc.EnableNFTables}
	ranges := []*Range{&c.Range, &c.Second}
	for _, half := range []struct {
		family inet.Family
		used   bool
		text   rangeText
	}{
		{
			inet.IPv4, doc.EnableIPv4 == nil || *doc.EnableIPv4,
			rangeText{doc.Network, doc.SubnetLen, doc.SubnetMin, doc.SubnetMax},
		},
		{
			inet.IPv6, doc.EnableIPv6,
			rangeText{doc.IPv6Network, doc.IPv6SubnetLen, doc.IPv6SubnetMin, doc.IPv6SubnetMax},
		},
	} {
		if !half.used {
			continue
		}
		if err := ranges[0].parse(half.family, half.text); err != nil {
			return Config{}, err
		}
		ranges = ranges[1:]
	}
	if !c.Network.IsValid() {
		return Config{}, &FieldError{
			"EnableIPv4", "false", "leaves no addresses for containers: remove the field, or set EnableIPv6",
		}
	}
	return c, c.setBackendType()
}

// unusable are the ranges no container may live in (RFC 6890, RFC 5771, RFC 4291).
var unusable = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("224.0.0.0/3"),
	netip.MustParsePrefix("::/8"),
	netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("ff00::/8"),
}

// rangeText is a Range as the config key has it.
type rangeText struct {
	network   string
	subnetLen int
	min, max  string
}

// notation is how the config key speaks of a family.
type notation struct {
	prefix          string // of its fields' names
	usualLen        int    // of subnets, in bits
	network, subnet string // examples, for who has written none
}

var notations = map[inet.Family]notation{
	inet.IPv4: {"", 24, "172.7.0.0/16", "172.7.1.0"},
	inet.IPv6: {"IPv6", 64, "fd00:7::/48", "fd00:7:0:1::"},
}

// Field is the name of a family's field, such as "SubnetMin", in the config key.
func Field(f inet.Family, name string) string { return notations[f].prefix + name }

// parse reads what the config key says of a family. What is left out has flannel's
// defaults.
func (c *Range) parse(f inet.Family, text rangeText) error {
	as := notations[f]
	wrong := func(field string, value any, reason string, args ...any) error {
		return &FieldError{as.prefix + field, fmt.Sprint(value), fmt.Sprintf(reason, args...)}
	}
	if text.network == "" {
		return &FieldError{
			Field: as.prefix + "Network", Reason: fmt.Sprintf("is missing: set it to the cluster's range, such as %q", as.network),
		}
	}
	p, err := netip.ParsePrefix(text.network)
	if err != nil || inet.Of(p.Addr()) != f {
		return wrong("Network", text.network, "is not an %v network such as %q", f, as.network)
	}
	if longest := f.Bits() - 4; p.Bits() > longest {
		return wrong("Network", text.network, "is too small: it must be a /%d or wider", longest)
	}
	for _, u := range unusable {
		if u.Overlaps(p) {
			return wrong("Network", text.network, "overlaps %v, which no container can use", u)
		}
	}
	c.Network = p.Masked()
	n, least, most := text.subnetLen, p.Bits()+2, f.Bits()-2
	switch {
	case n == 0 && least <= as.usualLen:
		n = as.usualLen
	case n == 0:
		n = least
	case n < least:
		return wrong("SubnetLen", n, "leaves too few subnets in %v: it must be at least %d", c.Network, least)
	case n > most:
		return wrong("SubnetLen", n, "leaves no room for containers: it must be at most %d", most)
	}
	c.SubnetLen = n
	second, _ := inet.Next(netip.PrefixFrom(c.Network.Addr(), n)) // of at least four
	if c.SubnetMin, err = c.boundary(as.prefix+"SubnetMin", text.min, second); err != nil {
		return err
	}
	if c.SubnetMax, err = c.boundary(as.prefix+"SubnetMax", text.max, inet.Subnet(inet.Last(c.Network), n)); err != nil {
		return err
	}
	if c.SubnetMax.Less(c.SubnetMin) {
		return wrong("SubnetMin", c.SubnetMin, "is above %sSubnetMax %v", as.prefix, c.SubnetMax)
	}
	return nil
}

// boundary reads an end of the leased range. Empty means fallback, and so does the
// address that stands for none.
func (c *Range) boundary(field, s string, fallback netip.Prefix) (netip.Addr, error) {
	if s == "" {
		return fallback.Addr(), nil
	}
	f := c.family()
	a, err := netip.ParseAddr(s)
	if err == nil && inet.Of(a) == f && a.IsUnspecified() {
		return fallback.Addr(), nil
	}
	if err != nil || inet.Of(a) != f {
		return a, &FieldError{field, s, fmt.Sprintf("is not an %v address such as %q", f, notations[f].subnet)}
	}
	if !c.Network.Contains(a) {
		return a, &FieldError{field, s, fmt.Sprintf("is outside of %sNetwork %v", notations[f].prefix, c.Network)}
	}
	if begin := inet.Subnet(a, c.SubnetLen).Addr(); begin != a {
		return a, &FieldError{field, s, fmt.Sprintf("is not the start of a /%d: the nearest is %v", c.SubnetLen, begin)}
	}
	return a, nil
}

// defaultBackend is flannel's where the config key names none.
const defaultBackend = "udp"

func (c *Config) setBackendType() error {
	var backend struct{ Type string }
	err := c.Options(&backend)
	c.BackendType = cmp.Or(strings.ToLower(strings.TrimSpace(backend.Type)), defaultBackend)
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
func (c Range) MayLease(p netip.Prefix) bool {
	last := inet.Last(netip.PrefixFrom(c.SubnetMax, c.SubnetLen))
	return inet.Of(p.Addr()) == c.family() && !inet.Last(p).Less(c.SubnetMin) && !last.Less(p.Masked().Addr())
}

// Outside tells of a subnet that it is none of the network's.
func (c Range) Outside(p netip.Prefix) bool { return !within(c.Network, p) }

func within(network, p netip.Prefix) bool {
	return network.Contains(p.Addr()) && p.Bits() >= network.Bits()
}

// Fits reports whether p is one of the subnets that may be leased.
func (c Range) Fits(p netip.Prefix) bool {
	return p.IsValid() && p.Bits() == c.SubnetLen && p == p.Masked() && c.Network.Contains(p.Addr()) &&
		!p.Addr().Less(c.SubnetMin) && !c.SubnetMax.Less(p.Addr())
}

// Lacking are the families of which s has no subnet that may be leased.
func (c Config) Lacking(s Subnets) (out []inet.Family) {
	for _, r := range c.ranges() {
		if f := r.family(); r.Network.IsValid() && !r.Fits(s.Of(f)) {
			out = append(out, f)
		}
	}
	return out
}

// fitting are those of s that may be leased.
func (c Config) fitting(s Subnets) (fits Subnets) {
	for _, r := range c.ranges() {
		if f := r.family(); r.Network.IsValid() && r.Fits(s.Of(f)) {
			fits[f.Index()] = s.Of(f)
		}
	}
	return fits
}

// Misfits reports whether one of s, of a family that containers use, may not be leased.
func (c Config) Misfits(s Subnets) bool {
	return slices.ContainsFunc(c.Families(), func(f inet.Family) bool {
		half, _ := c.For(f)
		return s.Of(f).IsValid() && !half.Fits(s.Of(f))
	})
}

// Leaves reports whether a host with s has to leave one of them at a start under c, or has
// none of a family that containers use.
func (c Config) Leaves(s Subnets) bool { return c.Misfits(s) || len(c.Lacking(s)) == len(c.Families()) }

// Holds reports whether a host can follow c without leaving its subnets, and without
// losing a peer, where another config has been in force. A family may come, and one may
// go if another stays.
func (c Config) Holds(former Config, own Subnets) bool {
	stays := false
	for _, f := range c.Families() {
		now, _ := c.For(f)
		before, used := former.For(f)
		if !used {
			continue
		}
		has := own.Of(f).IsValid() // it may have given it up, for a change that is taken back now
		stays = stays || has
		if now.SubnetLen != before.SubnetLen || has && !now.Fits(own.Of(f)) ||
			now.Network.Bits() > before.Network.Bits() || !now.Network.Contains(before.Network.Addr()) {
			return false
		}
	}
	return stays
}

// At is c at the addresses of another config.
func (c Config) At(o Config) Config {
	c.Range, c.Second = o.Range, o.Second
	return c
}
