package etcdconn

import (
	"context"
	"sync"

	"flanneld/pkg/subnet"
)

// Watches are those that stand by the present credentials. The zero value has none.
type Watches struct {
	mu   sync.Mutex
	next int
	ends map[int]context.CancelCauseFunc
}

// Add has a watch end when the credentials are replaced, with the cause
// [subnet.ErrRenewed]. Whoever runs it calls remove in the end.
func (w *Watches) Add(end context.CancelCauseFunc) (remove func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ends == nil {
		w.ends = map[int]context.CancelCauseFunc{}
	}
	id := w.next
	w.next++
	w.ends[id] = end
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.ends, id)
	}
}

// Renew ends those that there are.
func (w *Watches) Renew() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, end := range w.ends {
		end(subnet.ErrRenewed)
	}
}
