package cli

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func TestBarLine(t *testing.T) {
	for _, tt := range []struct {
		done, total, columns int
		want                 string
	}{
		{0, 0, 80, "..."},
		{0, 4000, 80, "[--------------------------------------------------] 0 of 4000"},
		{1000, 4000, 80, "[############--------------------------------------] 1000 of 4000"},
		{4000, 4000, 80, "[##################################################] 4000 of 4000"},
		{9, 3, 40, "[##############################] 3 of 3"},
		{2, 4, 20, "[#####-----] 2 of 4"},
		{2, 4, 12, "2 of 4"},
		{2, 4, 4, "2 o"},
		{2, 4, 0, ""},
	} {
		if got := bar(tt.done, tt.total, tt.columns); got != tt.want {
			t.Errorf("%d of %d in %d columns: %q, want %q", tt.done, tt.total, tt.columns, got, tt.want)
		}
	}
}

// A bar never reaches the last column, and never shrinks as more is done.
func TestBarBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		total, columns := rapid.IntRange(1, 100000).Draw(t, "total"), rapid.IntRange(0, 300).Draw(t, "columns")
		a, b := rapid.IntRange(-1, total+1).Draw(t, "a"), rapid.IntRange(-1, total+1).Draw(t, "b")
		less, more := bar(min(a, b), total, columns), bar(max(a, b), total, columns)
		if len(less) > max(0, columns-1) || len(more) > max(0, columns-1) {
			t.Errorf("%q and %q in %d columns", less, more, columns)
		}
		if strings.Count(less, "#") > strings.Count(more, "#") && strings.HasPrefix(more, "[") {
			t.Errorf("%q, then %q", less, more)
		}
	})
}

// What is drawn is gone at the end.
func TestBar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w screen
		b := StartBar(&w, func() int { return 30 })
		time.Sleep(redraw / 2)
		b.Set(1, 2)
		time.Sleep(redraw)
		b.Set(2, 2)
		time.Sleep(redraw)
		b.End()
		const clear = "\x1b[K"
		want := "\r..." + clear + "\r[##########----------] 1 of 2" + clear + "\r[####################] 2 of 2" + clear + "\r" + clear
		if got := w.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	})
	var none *Bar
	none.Set(1, 2) // as where there is no terminal
	none.End()
}

type screen struct {
	mu sync.Mutex
	strings.Builder
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Builder.Write(p)
}
