package nftables

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestNothingWrongWhileOthersChange has another program add and delete chains, which
// the kernel lists together with ours. That must not look like drift.
func TestNothingWrongWhileOthersChange(t *testing.T) {
	emptyRuleset(t)
	nft(t, "add table ip other") // so that its chains are listed in front of ours
	c, want := connect(t), tableFor(wanted, true)
	apply(t, want)
	var add, remove strings.Builder
	for i := range 400 {
		fmt.Fprintf(&add, "add chain ip other c%d\n", i)
		fmt.Fprintf(&remove, "delete chain ip other c%d\n", i)
	}
	end, others := time.Now().Add(4*time.Second), make(chan error, 1)
	go func() {
		var err error
		for err == nil && time.Now().Before(end) {
			cmd := exec.Command("/usr/sbin/nft", "-f", "-")
			cmd.Stdin = strings.NewReader(add.String())
			if err = cmd.Run(); err == nil {
				cmd = exec.Command("/usr/sbin/nft", "-f", "-")
				cmd.Stdin = strings.NewReader(remove.String())
				err = cmd.Run()
			}
		}
		others <- err
	}()
	looks, failed := 0, 0
	for ; time.Now().Before(end); looks++ {
		switch wrong, err := c.apply(want, false); {
		case err != nil && strings.Contains(err.Error(), "changes faster"):
			failed++
		case err != nil:
			t.Error(err)
		case wrong != "":
			t.Errorf("look %d: %s", looks, wrong)
		}
	}
	if err := <-others; err != nil {
		t.Errorf("nft: %v", err)
	}
	t.Logf("%d looks, of which %d met nothing but changes", looks, failed)
	if failed == looks {
		t.Error("no look came to an end")
	}
}
