// Package recent shares one answer among all who ask for it within a second: what
// anybody who reaches a port may ask costs the daemon once a second, however many ask.
package recent

import (
	"context"
	"sync"
	"time"
)

const (
	// FreshFor is how long an answer serves others who ask.
	FreshFor = time.Second

	// askTime bounds how long an answer may take.
	askTime = 2 * time.Second
)

// Answer is the latest of a question. It is for any number of goroutines.
type Answer[T any] struct {
	ask func(context.Context) (T, error)

	mu     sync.Mutex
	latest T
	err    error
	at     time.Time
}

// New returns an Answer to ask, whose context ends after two seconds.
func New[T any](ask func(context.Context) (T, error)) *Answer[T] { return &Answer[T]{ask: ask} }

// Get is the latest answer, an error included, if it is younger than FreshFor, and
// otherwise a new one. That ctx ends does not end the question: others wait for it.
func (a *Answer[T]) Get(ctx context.Context) (T, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if time.Since(a.at) >= FreshFor {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTime)
		defer cancel()
		a.latest, a.err = a.ask(ctx)
		a.at = time.Now()
	}
	return a.latest, a.err
}
