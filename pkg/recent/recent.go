// Package recent shares one answer among all who ask for it within a second: what
// anybody who reaches a port may ask costs the daemon once a second, however many ask.
package recent

import (
	"context"
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

	turn   chan struct{} // one slot: who fills it may use what follows
	latest T
	err    error
	at     time.Time
}

// New returns an Answer to ask, whose context ends after two seconds.
func New[T any](ask func(context.Context) (T, error)) *Answer[T] {
	return &Answer[T]{ask: ask, turn: make(chan struct{}, 1)}
}

// Get is the latest answer, an error included, if it is younger than FreshFor, and
// otherwise a new one. That ctx ends does not end the question: others wait for it.
func (a *Answer[T]) Get(ctx context.Context) (T, error) {
	a.turn <- struct{}{}
	defer func() { <-a.turn }()
	if time.Since(a.at) >= FreshFor {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTime)
		defer cancel()
		a.latest, a.err = a.ask(ctx)
		a.at = time.Now()
	}
	return a.latest, a.err
}
