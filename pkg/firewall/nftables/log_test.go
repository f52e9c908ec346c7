package nftables

import (
	"io"
	"strings"
	"testing"
	"time"

	"k8s.io/klog/v2"
)

// TestWhatIsLackingIsLoggedOnce: when it is found out, and when that is over.
func TestWhatIsLackingIsLoggedOnce(t *testing.T) {
	for _, kind := range []string{"masq, random: true", "counter", "set", "lookup", "meta", "chain filter"} {
		t.Run(kind, func(t *testing.T) {
			emptyRuleset(t)
			var log strings.Builder
			klog.LogToStderr(false)
			klog.SetOutput(io.Discard)
			klog.SetOutputBySeverity("INFO", &log)
			t.Cleanup(func() { klog.SetOutput(io.Discard); klog.LogToStderr(true) })
			w := &Writer{}
			t.Cleanup(w.close)
			passes := func() {
				w.close()
				for range 4 {
					w.learned, w.asked = time.Now().Add(-2*answerTime), time.Now().Add(-2*answerTime)
					want := wanted
					want.Marked = w.CanMark(want)
					if _, err := once(w, want); err != nil {
						t.Fatal(err)
					}
				}
			}
			for range 2 { // it may be lacking once more
				log.Reset()
				emptyRuleset(t)
				w.commit = lacking(kind)
				passes()
				if n := strings.Count(log.String(), "Doing without"); n != 1 || strings.Count(log.String(), "\n") != n {
					t.Errorf("%d lines that it is lacking:\n%s", n, &log)
				}
				log.Reset()
				w.commit = nil
				passes()
				if n := strings.Count(log.String(), "takes what it refused before"); n != 1 || strings.Count(log.String(), "\n") != n {
					t.Errorf("%d lines that it is there:\n%s", n, &log)
				}
			}
		})
	}
}

// TestMarksDoNotKeepTheRestLacking: what a kernel lacks beside marks is tried again, too.
func TestMarksDoNotKeepTheRestLacking(t *testing.T) {
	emptyRuleset(t)
	w := &Writer{lacks: lacks{counters: true}, learned: time.Now().Add(-2 * answerTime), commit: lacking("set")}
	t.Cleanup(w.close)
	if w.CanMark(wanted) {
		t.Fatal("it marks")
	}
	if _, err := once(w, wanted); err != nil || w.lacks != (lacks{marks: true}) {
		t.Errorf("it takes %+v for lacking, error %v", w.lacks, err)
	}
}
