package recent_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"flanneld/pkg/recent"
)

// TestOneAnswerServesAll: a flood costs one question a second, and what changed is
// seen within that second.
func TestOneAnswerServesAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, wrong := 0, error(nil)
		a := recent.New(func(ctx context.Context) (int, error) {
			if _, bounded := ctx.Deadline(); !bounded || ctx.Err() != nil {
				t.Error("the question has no end, or has ended")
			}
			time.Sleep(10 * time.Millisecond)
			asked++
			return asked, wrong
		})
		gone, cancel := context.WithCancel(t.Context())
		cancel() // the first visitor has left: the others want to know all the same
		var visitors sync.WaitGroup
		for range 100 {
			visitors.Go(func() {
				if n, err := a.Get(gone); n != 1 || err != nil {
					t.Errorf("answer %d, %v", n, err)
				}
			})
		}
		visitors.Wait()
		wrong = errors.New("no lease")
		time.Sleep(recent.FreshFor)
		if n, err := a.Get(t.Context()); n != 2 || err != wrong {
			t.Errorf("answer %d, %v after the change", n, err)
		}
		wrong = nil
		if _, err := a.Get(t.Context()); err == nil {
			t.Error("an error is not shared")
		}
	})
}
