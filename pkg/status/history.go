package status

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"flanneld/pkg/printable"
)

// History is the latest of what became otherwise on this host. The zero value is empty; it
// is for any number of goroutines.
type History struct {
	mu     sync.Mutex
	latest []changed // oldest first
}

type changed struct {
	Change
	times int
}

const (
	changesKept   = 50
	longestChange = 500              // bytes
	sameChange    = 10 * time.Minute // within which the same counts as one that comes again and again
)

// Note takes up what has become otherwise now: a phrase on one line, as long as it may be.
// What was noted a short time ago takes no second place: it moves to the front.
func (h *History) Note(text string) {
	c := changed{Change{time.Now(), printable.Bounded(text, longestChange)}, 1}
	h.mu.Lock()
	defer h.mu.Unlock()
	again := func(o changed) bool { return o.Text == c.Text && c.Time.Sub(o.Time) < sameChange }
	if i := slices.IndexFunc(h.latest, again); i >= 0 {
		c.times += h.latest[i].times
		h.latest = slices.Delete(h.latest, i, i+1)
	}
	if len(h.latest) == changesKept {
		h.latest = slices.Delete(h.latest, 0, 1)
	}
	h.latest = append(h.latest, c)
}

// List is a copy, newest first.
func (h *History) List() (out []Change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range slices.Backward(h.latest) {
		if c.times > 1 {
			c.Text += fmt.Sprintf(" (%d times)", c.times)
		}
		out = append(out, c.Change)
	}
	return out
}
