package check

import (
	"strconv"

	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/printable"
)

// letPass is the command that lets the network's packets pass in front of a verdict.
func (f Facts) letPass(v rules.Verdict) string {
	return insert(v, "-s", f.network(), "-j", "ACCEPT") + "; " + insert(v, "-d", f.network(), "-j", "ACCEPT")
}

// insert is the command that puts a rule of iptables in front of a verdict.
func insert(v rules.Verdict, rule ...string) string {
	args := []string{"-I", v.Chain}
	if v.Table.Name != "filter" {
		args = []string{"-t", v.Table.Name, "-I", v.Chain}
	}
	return printable.Command(v.Table.Program, append(args, rule...)...)
}

// remove is the command that takes a rule of nftables away.
func remove(r *rules.Rule) string {
	return printable.Command("nft", "delete", "rule", r.Table.Family, r.Table.Name, r.Chain,
		"handle", strconv.FormatUint(r.Handle, 10))
}

// insertRule is the command that puts a rule in front of a verdict.
func insertRule(v rules.Verdict, rule ...string) string {
	args := append([]string{"insert", "rule", v.Table.Family, v.Table.Name, v.Chain}, rule...)
	return printable.Command("nft", args...)
}
