package admin

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"flanneld/pkg/backend"
	"flanneld/pkg/printable"
	"flanneld/pkg/subnet"
)

// Check reads a config's text as a flanneld does. Its errors are
// *subnet.FieldError. ignored are fields that have no effect.
func (a Admin) Check(text string) (c subnet.Config, ignored []backend.Ignored, err error) {
	if c, err = subnet.ParseConfig(text); err != nil {
		return c, nil, err
	}
	if err := a.options(c); err != nil {
		return c, nil, err
	}
	return c, backend.IgnoredFields(text, a.Backends), nil
}

// options has the backend read its part.
func (a Admin) options(c subnet.Config) error {
	build, known := a.Backends[c.BackendType]
	if !known {
		reason := "is not supported"
		if c.BackendType == "" {
			reason = "is missing, and udp, which flannel takes then, is not supported yet"
		}
		return &subnet.FieldError{Field: "Backend.Type", Value: c.BackendType,
			Reason: reason + ": the types are " + strings.Join(slices.Sorted(maps.Keys(a.Backends)), ", ")}
	}
	return build.Check(c)
}

// Ignored says what becomes of fields that have no effect; "" if there are none.
func Ignored(fields []backend.Ignored) string {
	if len(fields) == 0 {
		return ""
	}
	var all []string
	for _, f := range fields {
		all = append(all, f.String())
	}
	return "flanneld ignores the field " + printable.Bounded(strings.Join(all, ", "), printable.Longest)
}

// Leaving are the leases that do not fit a config: their hosts get another
// subnet under it.
func Leaving(c subnet.Config, leases []subnet.Lease) (out []subnet.Lease) {
	for _, l := range leases {
		if leaves(c, l.Subnets()) {
			out = append(out, l)
		}
	}
	return out
}

// leaves tells of a lease's subnets that its host has to leave one by a config, or has none
// of a family in common with it.
func leaves(c subnet.Config, s subnet.Subnets) bool {
	return c.Misfits(s) || len(c.Lacking(s)) == len(c.Families())
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
		ask = append(ask, fmt.Sprintf("  %v of %v", l.Subnets(), l.PublicIP))
	}
	for _, key := range slices.Sorted(maps.Keys(now.Malformed)) { // of which the holder is unknown
		if s, err := subnet.ParseKey(key); err == nil && leaves(c, s) {
			ask = append(ask, fmt.Sprintf("  %v, whose lease cannot be read", s))
		}
	}
	former, err := subnet.ParseConfig(now.Config.Value)
	switch {
	case len(ask) > 0:
		return append([]string{
			fmt.Sprintf("%s leave their subnets once flanneld is restarted there, and then restart their containers:",
				hosts(len(ask))),
		}, ask...)
	case len(now.Leases) == 0 && now.Config.Modified != 0 && err == nil && !includes(c, former):
		return []string{fmt.Sprintf("The config in force has other subnets, /%d from %v to %v, and no lease is known: "+
			"every host that has one of them must leave it once flanneld is restarted there, and restart its containers.",
			former.SubnetLen, former.SubnetMin, former.SubnetMax)}
	}
	return nil
}

// includes tells whether each subnet of one config is one of another's.
func includes(c, former subnet.Config) bool {
	for _, f := range former.Families() {
		was, _ := former.For(f)
		now, used := c.For(f)
		if used && !(now.Fits(netip.PrefixFrom(was.SubnetMin, was.SubnetLen)) &&
			now.Fits(netip.PrefixFrom(was.SubnetMax, was.SubnetLen))) {
			return false
		}
	}
	return true
}

func hosts(n int) string {
	if n == 1 {
		return "1 host must"
	}
	return fmt.Sprintf("%d hosts must", n)
}
