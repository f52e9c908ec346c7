package iptables

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"flanneld/pkg/firewall/rules"
)

// manyJumps is a FORWARD chain whose jumps lead to the last chain in 20 to the power
// of 12 ways, in front of a REJECT.
func manyJumps(last ...string) rules.Ruleset {
	const chains, jumps = 12, 20
	lines := []string{"FORWARD -j C1", "FORWARD -j REJECT"}
	for i := 1; i <= chains; i++ {
		name, next := fmt.Sprint("C", i), fmt.Sprint("C", i+1)
		lines = append(lines, ":"+name+" - [0:0]")
		for range jumps {
			if i < chains {
				lines = append(lines, name+" -j "+next)
			}
		}
	}
	return parsed("filter", append(lines, last...)...)
}

// withinTime fails the test if do takes long.
func withinTime(t *testing.T, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { do(); close(done) }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("it takes more than 20 s")
	}
}

func TestManyJumps(t *testing.T) {
	packet := rules.Packet{
		In: "docker0", Out: "flannel.1", Protocol: "tcp",
		Src: netip.MustParseAddr("172.7.21.2"), Dst: netip.MustParseAddr("172.7.22.2"),
	}
	// A counter in the mark: no two visits to the chain find the same mark.
	var counter []string
	for bit := range 31 {
		set, mask := fmt.Sprint("SET", bit), fmt.Sprintf("%#x", 1<<bit)
		counter = append(counter, ":"+set+" - [0:0]", set+" -j MARK --set-xmark "+mask+"/"+mask,
			"C12 -m mark --mark 0x0/"+mask+" -g "+set, "C12 -j MARK --set-xmark 0x0/"+mask)
	}
	for _, tt := range []struct {
		name   string
		set    rules.Ruleset
		reason string // the rule that drops the packet
	}{
		{"nothing at the end", manyJumps(), "FORWARD -j REJECT"},
		{"another network's rules at the end", manyJumps("C12 -s 10.0.0.0/8 -j DROP", "C12 -d 10.0.0.0/8 -j ACCEPT"),
			"FORWARD -j REJECT"},
		{"narrower at each chain",
			manyJumps("C6 -s 172.7.21.0/24 -j C7", "C9 -d 172.7.22.0/24 -j C10", "C12 -s 10.0.0.0/8 -j DROP"),
			"FORWARD -j REJECT"},
		{"a DROP at the end", manyJumps("C12 -j DROP"), "C12 -j DROP"},
		{"a DROP for some at the end", manyJumps("C12 -s 172.7.21.0/24 -j DROP"), "C12 -s 172.7.21.0/24 -j DROP"},
		{"a counter at the end", manyJumps(counter...), "FORWARD -j REJECT"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			withinTime(t, func() {
				v := tt.set.Evaluate(packet, rules.Forwarded)
				if !v.Dropped || v.Rule == nil || Show(*v.Rule) != "-A "+tt.reason {
					t.Errorf("the packet is dropped: %v, by %+v; want %s", v.Dropped, v.Rule, tt.reason)
				}
			})
			withinTime(t, func() {
				parts, _ := planner{set: tt.set, wanted: everything, can: everyAbility}.plan()
				i := slices.IndexFunc(parts, func(p chainPlan) bool { return p.chainID == forwardChain })
				want := "-j REJECT"
				if tt.reason == "C12 -j DROP" {
					want = "-j C1"
				}
				if got := parts[i].others[parts[i].places[0].before].Text; got != want {
					t.Errorf("our rules come in front of %q, want %q", got, want)
				}
			})
		})
	}
}

// TestMarksBetweenJumps: a chain that was passed once may do something else the
// next time, to a packet with another mark.
func TestMarksBetweenJumps(t *testing.T) {
	set := parsed("filter", ":A - [0:0]", "FORWARD -j A", "FORWARD -j A", "FORWARD -j A", "FORWARD -j ACCEPT",
		"A -m mark --mark 0x3/0x3 -j DROP", "A -m mark --mark 0x1/0x1 -j MARK --set-xmark 0x2/0x2",
		"A -j MARK --set-xmark 0x1/0x1")
	v := set.Evaluate(rules.Packet{In: "docker0", Out: "flannel.1"}, rules.Forwarded)
	if !v.Dropped || Show(*v.Rule) != "-A A -m mark --mark 0x3/0x3 -j DROP" {
		t.Errorf("%+v", v)
	}
}
