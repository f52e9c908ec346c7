package admin

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"flanneld/pkg/backend"
	"flanneld/pkg/inet"
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
	build, err := backend.Find(a.Backends, c)
	if err != nil {
		return err
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
		if c.Leaves(l.Subnets()) {
			out = append(out, l)
		}
	}
	return out
}

// left are those of a host's subnets that it has to leave by a config, and otherwise keeps.
func left(c subnet.Config, s subnet.Subnets) (out subnet.Subnets) {
	if !c.Misfits(s) {
		return s // none of them is of a family that containers would use
	}
	var misfits []netip.Prefix
	for _, f := range c.Families() {
		if half, _ := c.For(f); s.Of(f).IsValid() && !half.Fits(s.Of(f)) {
			misfits = append(misfits, s.Of(f))
		}
	}
	return subnet.SubnetsOf(misfits...)
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
	change := Change{Done: "written: " + subnet.Shown(text), entry: now.Config, nothing: same}
	change.entry.Value, change.entry.TTL = text, 0
	if change.nothing {
		change.Done = "the config key is so already"
	}
	var ask []string
	before := former(now)
	for _, f := range c.Families() {
		half, _ := c.For(f)
		warning, err := a.checkUnderlay(half, now.Leases)
		if was, used := before.For(f); err != nil && used && was.Range == half.Range {
			change.Notes, err = append(change.Notes, err.Error()), nil // hosts live with it already
		}
		if err != nil {
			return Change{}, err
		}
		if warning != "" {
			change.Notes, ask = append(change.Notes, warning), append(ask, "Its hosts may need addresses of it.")
		}
	}
	change.Notes = append(change.Notes, families(before, c)...)
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
		ask = append(ask, fmt.Sprintf("  %v of %v", left(c, l.Subnets()), l.PublicIP))
	}
	for _, key := range slices.Sorted(maps.Keys(now.Malformed)) { // of which the holder is unknown
		if s, err := subnet.ParseKey(key); err == nil && c.Leaves(s) {
			ask = append(ask, fmt.Sprintf("  %v, whose lease cannot be read", left(c, s)))
		}
	}
	others := excluded(c, former(now))
	switch {
	case len(ask) > 0:
		return append([]string{
			fmt.Sprintf("%s leave their subnets once flanneld is restarted there, and then restart their containers:",
				hosts(len(ask))),
		}, ask...)
	case len(now.Leases) == 0 && len(others) > 0:
		return []string{fmt.Sprintf("The config in force has other subnets, %s, and no lease is known: "+
			"every host that has one of them must leave it once flanneld is restarted there, and restart its containers.",
			strings.Join(others, " and "))}
	}
	return nil
}

// former is the config in force; the zero one: there is none that can be read.
func former(now subnet.Contents) subnet.Config {
	if now.Config.Modified == 0 {
		return subnet.Config{}
	}
	c, err := subnet.ParseConfig(now.Config.Value)
	if err != nil {
		return subnet.Config{}
	}
	return c
}

// excluded says which subnets of a former config are none of c's, so that hosts have to leave
// them. A family may go as long as another one stays.
func excluded(c, former subnet.Config) (out []string) {
	for _, f := range former.Families() {
		was, _ := former.For(f)
		now, used := c.For(f)
		fits := used && now.Fits(netip.PrefixFrom(was.SubnetMin, was.SubnetLen)) &&
			now.Fits(netip.PrefixFrom(was.SubnetMax, was.SubnetLen))
		if !fits && (used || !stays(c, former)) {
			out = append(out, fmt.Sprintf("/%d from %v to %v", was.SubnetLen, was.SubnetMin, was.SubnetMax))
		}
	}
	return out
}

// stays tells whether containers go on to use a family.
func stays(c, former subnet.Config) bool {
	return slices.ContainsFunc(former.Families(), func(f inet.Family) bool { _, used := c.For(f); return used })
}

// families says what it means that a family comes or goes beside one that stays, which hosts
// follow while they run.
func families(former, c subnet.Config) (notes []string) {
	if !stays(c, former) || len(excluded(c, former)) > 0 {
		return nil
	}
	for _, f := range inet.Families() {
		was, before := former.For(f)
		is, after := c.For(f)
		switch {
		case after && !before:
			notes = append(notes, fmt.Sprintf("%v comes in addition: each running host takes a subnet of %v beside "+
				"the one that it has, and loses no packet; its containers have %[1]v once docker is restarted there with "+
				"the options that mk-docker-opts.sh writes then", f, is.Network))
		case before && !after:
			notes = append(notes, fmt.Sprintf("%v goes: running hosts take their routes to %v away, and keep their other "+
				"subnets; containers no longer reach those of other hosts by %[1]v", f, was.Network))
		}
	}
	return notes
}

func hosts(n int) string {
	if n == 1 {
		return "1 host must"
	}
	return fmt.Sprintf("%d hosts must", n)
}
