package status

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func noted(h *History) (out []string) {
	for _, c := range h.List() {
		out = append(out, c.Text)
	}
	return out
}

// TestHistory: the newest comes first, and what comes again and again is one that is counted,
// unless long ago.
func TestHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h History
		if got := h.List(); len(got) != 0 {
			t.Errorf("%+v", got)
		}
		for _, text := range []string{"ready", "not ready: etcd", "ready", "not ready: etcd", "ready"} {
			h.Note(text)
			time.Sleep(time.Minute)
		}
		if diff := cmp.Diff([]string{"ready (3 times)", "not ready: etcd (2 times)"}, noted(&h)); diff != "" {
			t.Error(diff)
		}
		last := h.List()[0].Time
		time.Sleep(sameChange)
		h.Note("ready")
		if diff := cmp.Diff([]string{"ready", "ready (3 times)", "not ready: etcd (2 times)"}, noted(&h)); diff != "" {
			t.Error(diff)
		}
		if again := h.List()[1].Time; !again.Equal(last) {
			t.Errorf("an old one is of %v, was of %v", again, last)
		}
	})
}

// TestHistoryIsBounded: in number, in length, and to what prints.
func TestHistoryIsBounded(t *testing.T) {
	var h History
	for i := range 1_000 {
		h.Note(fmt.Sprintf("%d \x1b[2J %s", i, strings.Repeat("x\n", 1_000)))
	}
	all := h.List()
	if len(all) != changesKept || !strings.HasPrefix(all[0].Text, "999 ?[2J x?") {
		t.Fatalf("%d changes, first %.20q", len(all), all[0].Text)
	}
	for _, c := range all {
		if len(c.Text) > longestChange+len("…") {
			t.Fatalf("%d bytes", len(c.Text))
		}
	}
}
