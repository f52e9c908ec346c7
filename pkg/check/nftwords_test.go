package check

import (
	"strings"
	"testing"

	"flanneld/pkg/firewall/rules"
)

// TestNftReadsItsArgumentsAsOneLine: no name that nft would take for commands is in a printed nft command.
func TestNftReadsItsArgumentsAsOneLine(t *testing.T) {
	for chain, command := range map[string]bool{
		"FORWARD": true, "filter_FORWARD": true, "DOCKER-USER": true, "a.b/c": true,
		"c accept; flush ruleset #": false, "x y": false, "": false, "a;b": false, "{": false, "-": true, `"a" "b"`: false,
	} {
		r := &rules.Rule{Table: &rules.Table{Family: "ip", Name: "filter"}, Chain: chain, Handle: 7}
		v := rules.Verdict{Table: r.Table, Chain: chain}
		for _, line := range []string{remove(r), insertRule(v, "ip", "daddr", "10.4.7.12", "accept")} {
			if strings.HasPrefix(line, "nft ") != command {
				t.Errorf("chain %q: %s", chain, line)
			}
		}
	}
	v := rules.Verdict{Table: &rules.Table{Family: "ip", Name: "t"}, Chain: "c"}
	if got, want := insertRule(v, "iifname", `"docker0"`, "accept"), `nft insert rule ip t c iifname '"docker0"' accept`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := insertRule(v, "iifname", `"a";flush ruleset"`, "accept"); strings.HasPrefix(got, "nft ") {
		t.Error(got)
	}
}
