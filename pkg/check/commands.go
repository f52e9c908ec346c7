package check

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

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
	return nft("delete", "rule", r.Table.Family, r.Table.Name, r.Chain, "handle", strconv.FormatUint(r.Handle, 10))
}

// insertRule is the command that puts a rule in front of a verdict.
func insertRule(v rules.Verdict, rule ...string) string {
	return nft(append([]string{"insert", "rule", v.Table.Family, v.Table.Name, v.Chain}, rule...)...)
}

// nftWord is a word that nft takes for one. It reads its arguments as if they stood on
// one line, so that a shell's quotes keep no name from being taken for commands.
var nftWord = regexp.MustCompile(`^("[A-Za-z0-9_./:@-]+"|[A-Za-z0-9_./:@-]+)$`)

// nft is a command of nft's; where a name is no word for it, what is to be done.
func nft(words ...string) string {
	if slices.ContainsFunc(words, func(w string) bool { return !nftWord.MatchString(w) }) {
		return "without nft, to which these are not words: " + printable.Word(strings.Join(words, " "))
	}
	return printable.Command("nft", words...)
}
