package subnet

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Config is the cluster's network, as the store's config key describes it.
type Config struct {
	Network     netip.Prefix    // IPv4, masked
	SubnetLen   int             // prefix length of every host's subnet, in bits
	SubnetMin   netip.Addr      // the first subnet that may be leased
	SubnetMax   netip.Addr      // the last one
	BackendType string          // lower case
	Backend     json.RawMessage // the whole Backend object, for its options
	NFTables    bool            // EnableNFTables: rules by nftables rather than iptables
}

// FieldError says which field of the config is wrong, and why.
type FieldError struct {
	Field  string // "SubnetMin", "Backend.Type"; empty: the document itself
	Value  string // as written; empty: missing
	Reason string
}

func (e *FieldError) Error() string {
	switch {
	case e.Field == "":
		return e.Reason
	case e.Value == "":
		return e.Field + " " + e.Reason
	}
	return fmt.Sprintf("%s %q %s", e.Field, e.Value, e.Reason)
}

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
	}
	if err := unmarshal([]byte(raw), &doc); err != nil {
		return Config{}, err
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

// unmarshal is json.Unmarshal with the error in an operator's words.
func unmarshal(raw []byte, into any) error {
	err := json.Unmarshal(raw, into)
	var wrongType *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &wrongType) && wrongType.Field != "":
		return &FieldError{Field: wrongType.Field, Reason: fmt.Sprintf("must be a JSON %s, not a %s", jsonName(wrongType.Type.Kind().String()), wrongType.Value)}
	case errors.As(err, &wrongType):
		return &FieldError{Reason: fmt.Sprintf("must be a JSON object, not a %s", wrongType.Value)}
	case errors.As(err, &syntax):
		return &FieldError{Reason: fmt.Sprintf("is not JSON: %v at byte %d", err, syntax.Offset)}
	}
	return &FieldError{Reason: fmt.Sprintf("is not JSON: %v", err)}
}

func jsonName(kind string) string {
	switch kind {
	case "int", "uint16", "uint32":
		return "whole number"
	case "bool":
		return "true or false"
	case "struct", "map":
		return "object"
	}
	return kind
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
	if err != nil || !p.Addr().Is4() {
		return &FieldError{"Network", s, `is not an IPv4 network such as "172.7.0.0/16"`}
	}
	if p.Bits() > 28 {
		return &FieldError{"Network", s, "is too small: it must be a /28 or wider"}
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
	least := c.Network.Bits() + 2
	switch {
	case n == 0 && c.Network.Bits() <= 22:
		n = 24
	case n == 0:
		n = least
	case n < least:
		return &FieldError{"SubnetLen", fmt.Sprint(n), fmt.Sprintf("leaves too few subnets in %v: it must be at least %d", c.Network, least)}
	case n > 30:
		return &FieldError{"SubnetLen", fmt.Sprint(n), "leaves no room for containers: it must be at most 30"}
	}
	c.SubnetLen = n
	return nil
}

func (c *Config) setRange(first, last string) (err error) {
	size := uint32(1) << (32 - c.SubnetLen)
	start := toUint(c.Network.Addr())
	end := start | (1<<(32-c.Network.Bits()) - 1)
	if c.SubnetMin, err = c.boundary("SubnetMin", first, start+size); err != nil {
		return err
	}
	if c.SubnetMax, err = c.boundary("SubnetMax", last, end-size+1); err != nil {
		return err
	}
	if c.SubnetMax.Less(c.SubnetMin) {
		return &FieldError{"SubnetMin", c.SubnetMin.String(), fmt.Sprintf("is above SubnetMax %v", c.SubnetMax)}
	}
	return nil
}

// boundary reads an end of the leased range; empty means fallback.
func (c *Config) boundary(field, s string, fallback uint32) (netip.Addr, error) {
	if s == "" {
		return toAddr(fallback), nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is4() {
		return a, &FieldError{field, s, `is not an IPv4 address such as "172.7.1.0"`}
	}
	if !c.Network.Contains(a) {
		return a, &FieldError{field, s, fmt.Sprintf("is outside of Network %v", c.Network)}
	}
	if p := netip.PrefixFrom(a, c.SubnetLen).Masked(); p.Addr() != a {
		return a, &FieldError{field, s, fmt.Sprintf("is not the start of a /%d: the nearest is %v", c.SubnetLen, p.Addr())}
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

// Fits reports whether p is one of the subnets that may be leased.
func (c Config) Fits(p netip.Prefix) bool {
	return p.IsValid() && p.Bits() == c.SubnetLen && p == p.Masked() && c.Network.Contains(p.Addr()) &&
		!p.Addr().Less(c.SubnetMin) && !c.SubnetMax.Less(p.Addr())
}

func toUint(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func toAddr(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}
