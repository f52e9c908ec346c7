package check

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"

	"flanneld/pkg/firewall/iptables"
	"flanneld/pkg/firewall/nftables"
	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/inet"
)

// commandTime bounds one program that is asked.
const commandTime = 10 * time.Second

// run is what a program prints.
func run(ctx context.Context, path string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) && len(failed.Stderr) > 0 {
		return "", errors.New(path + ": " + strings.Join(strings.Fields(string(failed.Stderr)), " "))
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return string(out), nil
}

// readFirewall reads the rules of both flavours of iptables, and all others of
// nftables. Where iptables is not installed it has none.
func (f *Facts) readFirewall(ctx context.Context) {
	f.Firewall, f.NoIPTables = nil, map[inet.Family]bool{}
	byIPTables := map[string]flavours{} // by the family of nftables
	for _, family := range f.inUse() {
		of, err := readIPTables(ctx, family)
		f.NoIPTables[family] = err != nil
		f.note(dialects[family].iptables, err)
		f.Firewall = append(f.Firewall, of.known...)
		byIPTables[dialects[family].nft] = of
	}
	all, err := nftables.Read()
	if errors.Is(err, nftables.ErrUnsupported) {
		err = nil // then nobody has made any
	}
	f.NoNFTables = err != nil
	f.note("nftables", err)
	all = slices.DeleteFunc(all, f.unused)
	for _, t := range all {
		if !byIPTables[t.Family].has(t) && !f.madeByUnread(t) {
			f.Firewall = append(f.Firewall, t)
		}
	}
	if len(all) > 0 {
		f.tryNFT(ctx)
	}
}

// flavours are what iptables has told.
type flavours struct {
	known rules.Ruleset
	nft   rules.Ruleset // of these, those that are tables of nftables
}

// has reports whether a table of nftables is one that iptables has told of, and
// understands better.
func (f flavours) has(t *rules.Table) bool {
	return slices.ContainsFunc(f.nft, func(known *rules.Table) bool { return known.Name == t.Name })
}

// unused tells a table of nftables that sees no packet of containers.
func (f Facts) unused(t *rules.Table) bool {
	return slices.ContainsFunc(inet.Families(), func(family inet.Family) bool {
		return dialects[family].nft == t.Family && !slices.Contains(f.inUse(), family)
	})
}

// madeByUnread tells iptables-nft's tables by their names, where iptables told nothing.
func (f Facts) madeByUnread(t *rules.Table) bool {
	return slices.ContainsFunc(inet.Families(), func(family inet.Family) bool {
		return f.NoIPTables[family] && dialects[family].nft == t.Family &&
			slices.Contains([]string{"filter", "nat", "mangle", "raw", "security"}, t.Name)
	})
}

// readIPTables reads iptables for a family, and the rules of its other flavour where there
// are any: those hold as well.
func readIPTables(ctx context.Context, family inet.Family) (out flavours, err error) {
	name := dialects[family].iptables
	program, found := iptables.Find(name)
	if !found {
		return out, nil
	}
	version, err := run(ctx, program, "-V")
	if err != nil {
		return out, err
	}
	text, err := run(ctx, program+"-save")
	if err != nil {
		return out, err
	}
	out.known = iptables.Parse(name, text)
	if strings.Contains(version, "nf_tables") {
		out.nft = out.known
		return out, out.other(ctx, name+"-legacy")
	}
	return out, out.other(ctx, name+"-nft")
}

// other adds a flavour beside the one that is called iptables. That it cannot be
// read means a kernel without it, which then holds no rules of it.
func (f *flavours) other(ctx context.Context, flavour string) error {
	path, exists := iptables.Find(flavour + "-save")
	if !exists {
		return nil
	}
	text, err := run(ctx, path)
	if err != nil || !strings.Contains(text, "\n-A ") {
		return ctx.Err()
	}
	tables := iptables.Parse(flavour, text)
	f.known = append(f.known, tables...)
	if strings.HasSuffix(flavour, "-nft") {
		f.nft = tables
	}
	return nil
}

// tryNFT sees whether nft, which we have no need of, can read what we could. Up
// to 1.1.1 it ends in a segmentation fault where a set was made by a later one, as
// docker 29's are.
func (f *Facts) tryNFT(ctx context.Context) {
	path, found := iptables.Find("nft")
	if !found {
		return
	}
	_, err := run(ctx, path, "list", "ruleset")
	if err == nil {
		return
	}
	version, _ := run(ctx, path, "--version")
	if words := strings.Fields(version); len(words) > 1 {
		version = strings.TrimPrefix(words[1], "v")
	}
	f.Notes = append(
		f.Notes,
		fmt.Sprintf(
			"nft %s cannot read this host's tables: %v; flanneld does not need it; to look yourself, install nftables "+
				"1.1.2 or later",
			version,
			err,
		),
	)
}
