package nftables

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func changed(w *Watcher) bool {
	select {
	case <-w.Changed():
		return true
	case <-time.After(300 * time.Millisecond):
		return false
	}
}

func watch(t *testing.T) *Watcher {
	t.Helper()
	w, err := Watch()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run ended with %v", err)
			}
		case <-time.After(5 * time.Second):
			t.Error("Run does not end")
		}
	})
	return w
}

func TestWatch(t *testing.T) {
	emptyRuleset(t)
	nft(t, "table ip t { set s { type ipv4_addr; }; chain c { drop; }; }")
	w := watch(t)
	for _, change := range []string{
		"nft add table ip other", "nft add element ip t s { 10.0.0.1 }", "nft insert rule ip t c accept", "nft flush chain ip t c", "nft delete table ip other",
		"iptables-nft -A FORWARD -j ACCEPT", "iptables-nft -D FORWARD -j ACCEPT", "iptables-nft -t nat -N office",
	} {
		if out, err := exec.Command("sh", "-c", "PATH=$PATH:/usr/sbin:/sbin; "+strings.ReplaceAll(change, "{", "\\{")).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", change, err, out)
		}
		if !changed(w) {
			t.Errorf("%s: nothing changed", change)
		}
		for changed(w) { // what was one command may have been several changes
		}
	}
	nft(t, "list ruleset")
	if _, err := Read(); err != nil {
		t.Fatal(err)
	}
	if changed(w) {
		t.Error("reading is a change")
	}
	apply(t, tableFor(wanted, false))
	if !changed(w) {
		t.Error("what we write is no change")
	}
}

// TestWatchOverflows changes more than a subscription's buffer holds before
// anybody reads it.
func TestWatchOverflows(t *testing.T) {
	emptyRuleset(t)
	w, err := Watch()
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	script.WriteString("table ip t { chain c {\n")
	for i := range 20_000 {
		fmt.Fprintf(&script, "ip saddr 10.0.%d.%d drop\n", i/250, i%250)
	}
	nft(t, script.String()+"}; }")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	for changed(w) {
	}
	nft(t, "add table ip other")
	if !changed(w) {
		t.Error("after an overflow, nothing changes any more")
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run ended with %v", err)
	}
}
