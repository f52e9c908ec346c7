package cli

import (
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"
)

// Bar shows on a terminal's last line how far something has come, until it ends.
type Bar struct {
	w           io.Writer
	columns     func() int
	done, total atomic.Int64
	stop, ended chan struct{}
}

// redraw is how often a bar is drawn.
const redraw = 100 * time.Millisecond

// StartBar begins one on w, a terminal of so many columns. A nil Bar shows nothing.
func StartBar(w io.Writer, columns func() int) *Bar {
	b := &Bar{w: w, columns: columns, stop: make(chan struct{}), ended: make(chan struct{})}
	go b.run()
	return b
}

func (b *Bar) run() {
	defer close(b.ended)
	tick := time.NewTicker(redraw)
	defer tick.Stop()
	for {
		_, _ = fmt.Fprint(b.w, "\r"+bar(int(b.done.Load()), int(b.total.Load()), b.columns())+"\x1b[K")
		select {
		case <-tick.C:
		case <-b.stop:
			_, _ = fmt.Fprint(b.w, "\r\x1b[K") // the line is empty again
			return
		}
	}
}

// Set says how much is done of how much.
func (b *Bar) Set(done, total int) {
	if b != nil {
		b.done.Store(int64(done))
		b.total.Store(int64(total))
	}
}

// End takes the bar away.
func (b *Bar) End() {
	if b != nil {
		close(b.stop)
		<-b.ended
	}
}

// bar is a line for so many columns. The last one stays free: a terminal may go on to the next line there.
func bar(done, total, columns int) string {
	if total <= 0 {
		return clipped("...", columns)
	}
	done = min(max(done, 0), total)
	count := fmt.Sprintf(" %d of %d", done, total)
	room := min(columns-1-len(count)-len("[]"), 50)
	if room < 5 {
		return clipped(strings.TrimSpace(count), columns)
	}
	full := room * done / total
	return "[" + strings.Repeat("#", full) + strings.Repeat("-", room-full) + "]" + count
}

func clipped(s string, columns int) string { return s[:max(0, min(len(s), columns-1))] }
