package subnet

import (
	"errors"
	"testing"
)

// A watch that stood and then ended, be it a moment before it counts as lasting, goes on; one
// that was held back for as long and never stood does not.
func TestWatchThatStoodGoesOn(t *testing.T) {
	for vain, resumes := range map[int]bool{0: true, 1: false} {
		m := NewManager(nil, Options{})
		m.resumes, m.vain = true, vain
		m.ended(errors.New("the connection was closed"), shortWatch+1, 0)
		if m.resumes != resumes {
			t.Errorf("after %d watches in vain the next one goes on: %t", vain, m.resumes)
		}
	}
}
