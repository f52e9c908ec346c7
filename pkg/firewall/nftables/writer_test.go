package nftables

import (
	"context"
	"strings"
	"testing"

	"flanneld/pkg/firewall/firewalltest"
	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/inet"
)

// TestWriter has others need marks, or not, and change what they like.
func TestWriter(t *testing.T) { eachFamily(t, testWriter) }

func testWriter(t *testing.T, f inet.Family) {
	emptyRuleset(t)
	subjects := map[inet.Family]string{inet.IPv4: "nftables", inet.IPv6: "nftables ip6"}
	byIPTables := wanted
	byIPTables.NFTables = false
	var w Writer
	for _, step := range []struct {
		name, how string
		want      rules.Wanted
		marks     bool
		wrong     string // the first outcome's
		has       string // what nft lists
	}{
		{"nobody needs it", "", byIPTables, false, "", ""},
		{"again", "", byIPTables, false, "", ""},
		{"rules in iptables need marks", "", byIPTables, true, "is not there", "chain prerouting"},
		{"and have them", "", byIPTables, true, "", "chain prerouting"},
		{"somebody else changes something", "add table ip other", byIPTables, true, "", "chain prerouting"},
		{"somebody deletes it", "delete table ip flanneld", byIPTables, true, "is not there", "chain prerouting"},
		{"nobody needs it any more", "", byIPTables, false, "not wanted", ""},
		{"docker 29 needs marks", "add table ip docker-bridges", byIPTables, false, "is not there", "chain prerouting"},
		{"docker 29 is gone", "delete table ip docker-bridges", byIPTables, false, "not wanted", ""},
		{"nftables for all", "", wanted, false, "is not there", "chain masquerade"},
		{"flannel 0.28 has left its own", "add table ip flannel-ipv4; add chain ip flannel-ipv4 forward; add rule ip flannel-ipv4 forward ip saddr 172.7.0.0/16 accept", wanted, false, "", "chain masquerade"},
		{"which is gone", "", wanted, false, "", "chain masquerade"},
	} {
		if step.how != "" {
			nft(t, as(f, step.how))
		}
		result := w.Apply(context.Background(), firewalltest.Wanted(f, step.want), step.marks)
		for _, o := range result.Outcomes {
			if o.Err != nil || !strings.HasPrefix(o.Subject, subjects[f]) {
				t.Errorf("%s: %s: %v", step.name, o.Subject, o.Err)
			}
		}
		if got := result.Outcomes[0].Drift; (got == "") != (step.wrong == "") || !strings.Contains(got, step.wrong) {
			t.Errorf("%s: wrong was %q, want %q", step.name, got, step.wrong)
		}
		list := nft(t, "list ruleset")
		if strings.Contains(list, as(f, "table ip flanneld")) != (step.has != "") || !strings.Contains(list, step.has) || strings.Contains(list, as(f, "flannel-ipv4")) {
			t.Errorf("%s: there is\n%s", step.name, list)
		}
		if len(result.Rules) > 0 != (step.has != "") || step.has != "" && !strings.HasPrefix(result.Rules[0], as(f, "nft ip flanneld ")) {
			t.Errorf("%s: kept are %q", step.name, result.Rules)
		}
	}
}
