package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"flanneld/pkg/backend"
	"flanneld/pkg/kernel"
	"flanneld/pkg/printable"
	"flanneld/pkg/subnet"
)

// Check reads a config's text as a flanneld does. Its errors are
// *subnet.FieldError. ignored are fields that no flanneld knows.
func (a Admin) Check(text string) (c subnet.Config, ignored []string, err error) {
	if c, err = subnet.ParseConfig(text); err != nil {
		return c, nil, err
	}
	if err := a.options(c); err != nil {
		return c, nil, err
	}
	ignored = unread("", text, func(doc string) error {
		_, err := subnet.ParseConfig(doc)
		return err
	})
	return c, append(ignored, unread("Backend.", string(c.Backend), func(object string) error {
		probe := c
		probe.Backend = json.RawMessage(object)
		if err := probe.Options(&struct{ Type string }{}); err != nil {
			return err
		}
		return a.options(probe)
	})...), nil
}

// options has the backend read its part.
func (a Admin) options(c subnet.Config) error {
	build, known := a.Backends[c.BackendType]
	if !known {
		return &subnet.FieldError{Field: "Backend.Type", Value: c.BackendType,
			Reason: "is missing or not supported: the types are " + strings.Join(slices.Sorted(maps.Keys(a.Backends)), ", ")}
	}
	_, err := build(c, anyHost())
	return err
}

// anyHost is one on which every backend works. Its MTU is the largest there is.
func anyHost() backend.Host {
	ip := netip.MustParseAddr("192.0.2.1") // RFC 5737
	link := kernel.Link{
		Name: "the external interface", MTU: 65535, Up: true,
		Addrs: []kernel.Addr{{Prefix: netip.PrefixFrom(ip, 24)}},
	}
	return backend.Host{Link: link, Local: ip, PublicIP: ip}
}

// unread finds the fields of a JSON object that its reader does not look at: it
// would stumble over a list in their place.
func unread(prefix, object string, read func(string) error) (names []string) {
	var fields map[string]json.RawMessage
	if json.Unmarshal([]byte(object), &fields) != nil {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		probe := maps.Clone(fields)
		probe[name] = json.RawMessage("[]")
		text, err := json.Marshal(probe)
		if err == nil && read(string(text)) == nil {
			names = append(names, prefix+name)
		}
	}
	return names
}

// Ignored says what becomes of fields that nobody knows; "" if there are none.
func Ignored(fields []string) string {
	if len(fields) == 0 {
		return ""
	}
	names := printable.Bounded(strings.Join(fields, ", "), printable.Longest)
	return fmt.Sprintf("flanneld knows no field %s, and ignores it", names)
}

// Leaving are the leases that do not fit a config: their hosts get another
// subnet under it.
func Leaving(c subnet.Config, leases []subnet.Lease) (out []subnet.Lease) {
	for _, l := range leases {
		if !c.Fits(l.Subnet) {
			out = append(out, l)
		}
	}
	return out
}

// SetConfig plans to write the config key.
func (a Admin) SetConfig(ctx context.Context, text string) (Change, error) {
	text = strings.TrimSpace(text)
	c, ignored, err := a.Check(text)
	if err != nil {
		return Change{}, err
	}
	now, err := a.Read(ctx)
	if err != nil {
		return Change{}, err
	}
	same := now.Config.Modified != 0 && now.Config.Value == text
	change := Change{Done: "written: " + text, entry: now.Config, nothing: same}
	change.entry.Value, change.entry.TTL = text, 0
	if change.nothing {
		change.Done = "the config key is so already"
	}
	var ask []string
	warning, err := a.CheckUnderlay(c, now.Leases)
	if before, e := subnet.ParseConfig(now.Config.Value); err != nil && e == nil && sameSubnets(before, c) {
		change.Notes, err = append(change.Notes, err.Error()), nil // hosts live with it already
	}
	if err != nil {
		return Change{}, err
	}
	if warning != "" {
		change.Notes, ask = append(change.Notes, warning), append(ask, "Its hosts may need addresses of it.")
	}
	if note := Ignored(ignored); note != "" {
		ask = append(ask, note+".")
	}
	ask = append(ask, moves(c, now)...)
	if change.nothing {
		return change, nil
	}
	if s, ok := a.Store.(interface{ Beside(context.Context) string }); ok {
		if note := s.Beside(ctx); note != "" {
			ask = append(ask, note)
		}
	}
	if len(ask) > 0 {
		change.Question = strings.Join(append(ask, "Write it?"), "\n")
	}
	return change, nil
}

// moves says which hosts lose their subnets by a config: those whose leases do not
// fit it. Where no lease is known, there may be hosts all the same.
func moves(c subnet.Config, now subnet.Contents) (ask []string) {
	for _, l := range Leaving(c, now.Leases) {
		ask = append(ask, fmt.Sprintf("  %v of %v", l.Subnet, l.PublicIP))
	}
	for _, key := range slices.Sorted(maps.Keys(now.Malformed)) { // of which the holder is unknown
		if p, err := subnet.ParseKey(key); err == nil && p.IsValid() && !c.Fits(p) {
			ask = append(ask, fmt.Sprintf("  %v, whose lease cannot be read", p))
		}
	}
	former, err := subnet.ParseConfig(now.Config.Value)
	switch {
	case len(ask) > 0:
		return append([]string{
			fmt.Sprintf("%s leave their subnets, and their containers must be restarted:", hosts(len(ask))),
		}, ask...)
	case len(now.Leases) == 0 && now.Config.Modified != 0 && err == nil && !includes(c, former):
		return []string{fmt.Sprintf("The config in force has other subnets, /%d from %v to %v, and no lease is known: "+
			"every host that has one of them must leave it, and its containers must be restarted.",
			former.SubnetLen, former.SubnetMin, former.SubnetMax)}
	}
	return nil
}

// includes tells whether each subnet of one config is one of another's.
func includes(c, former subnet.Config) bool {
	return c.Fits(netip.PrefixFrom(former.SubnetMin, former.SubnetLen)) &&
		c.Fits(netip.PrefixFrom(former.SubnetMax, former.SubnetLen))
}

func hosts(n int) string {
	if n == 1 {
		return "1 host must"
	}
	return fmt.Sprintf("%d hosts must", n)
}
