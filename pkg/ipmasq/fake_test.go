package ipmasq

import (
	"context"
	"slices"
	"sync"
)

// fake is an iptables in memory that fails and blocks on demand.
type fake struct {
	mu      sync.Mutex
	chains  map[home][]string // lines of iptables -S
	fail    map[home]error    // what list says
	failPut error
	lock    chan struct{} // list waits until it is closed
	lists   int
	writes  int
}

func newFake() *fake {
	return &fake{fail: map[home]error{}, chains: map[home][]string{
		natHome: listing(natHome, nil), forwardHome: listing(forwardHome, nil), {"nat", "OUTPUT"}: listing(home{"nat", "OUTPUT"}, nil),
	}}
}

func (f *fake) list(h home) ([]string, error) {
	f.mu.Lock()
	f.lists++
	lock := f.lock
	f.mu.Unlock()
	if lock != nil {
		<-lock
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.chains[h]), f.fail[h]
}

func (f *fake) restore(_ context.Context, script string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failPut != nil {
		return f.failPut
	}
	f.writes++
	var err error
	for h := range f.chains {
		lines, no := apply(h, f.chains[h], script)
		if no == nil {
			f.chains[h] = lines
			return nil
		}
		err = no
	}
	return err
}

// do changes the fake as another program would.
func (f *fake) do(change func(f *fake)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *fake) flush(h home) { f.chains[h] = listing(h, nil) }

func (f *fake) rules(h home) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return rulesOf(h, f.chains[h])
}

func (f *fake) counts() (lists, writes int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lists, f.writes
}
