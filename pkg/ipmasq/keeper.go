package ipmasq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Options are what a Keeper needs.
type Options struct {
	// Resync is how often the rules are looked at, and so how long they may
	// be gone after somebody flushed them.
	Resync time.Duration
	// Report is told what does not work, one text per chain, whenever that
	// changes; an empty map means that all is well. It is called from Run.
	// Nil: nobody wants to know.
	Report func(problems map[string]string)
	// Repaired is told whenever rules that were in place had to be put right.
	// It is called from Run. Nil: nobody wants to know.
	Repaired func()
}

// Keeper keeps the wanted rules in place. Rules stay when it ends, so that
// traffic flows on.
type Keeper struct {
	kernel      kernel
	options     Options
	randomFully bool
	changed     chan struct{} // one slot: Set was called

	mu     sync.Mutex
	want   []Rule
	wanted bool // Set was called at all
}

// kernel is what a Keeper asks of iptables.
type kernel interface {
	list(home) ([]string, error)
	restore(ctx context.Context, script string) error
}

// New finds this machine's iptables, also where PATH lacks sbin. Its error
// wraps ErrNotInstalled where there is none.
func New(o Options) (*Keeper, error) {
	c, err := newCommand("/usr/sbin", "/sbin", "/usr/local/sbin")
	if err != nil {
		return nil, err
	}
	return newKeeper(c, c.HasRandomFully(), o)
}

func newKeeper(k kernel, randomFully bool, o Options) (*Keeper, error) {
	if o.Resync <= 0 {
		return nil, fmt.Errorf("resync period of iptables rules is %v: it must be positive", o.Resync)
	}
	return &Keeper{kernel: k, randomFully: randomFully, options: o, changed: make(chan struct{}, 1)}, nil
}

func (k *Keeper) String() string { return "iptables rules" }

// RandomFully reports whether iptables knows --random-fully; older kernels
// ignore it.
func (k *Keeper) RandomFully() bool { return k.randomFully }

// Set says which rules there shall be: all of them, each time. Rules of ours
// that are not among them are removed. Until the first call nothing is
// written. It may be called at any time from any goroutine.
func (k *Keeper) Set(want []Rule) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.wanted && slices.Equal(k.want, want) {
		return
	}
	k.want, k.wanted = slices.Clone(want), true
	select {
	case k.changed <- struct{}{}:
	default:
	}
}

func (k *Keeper) latest() ([]Rule, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.want, k.wanted
}

// Run looks after the rules until ctx ends, which is its only end.
func (k *Keeper) Run(ctx context.Context) error {
	r := newRounds(k.options)
	timer := time.NewTimer(k.options.Resync)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-k.changed:
			r.fresh()
		case <-timer.C:
		}
		want, wanted := k.latest()
		if !wanted {
			timer.Reset(k.options.Resync)
			continue
		}
		// iptables may wait for its lock longer than we may take to end.
		done := make(chan []outcome, 1)
		go func(swept bool) { done <- k.pass(ctx, want, swept) }(r.swept)
		select {
		case <-ctx.Done():
			return nil
		case outcomes := <-done:
			timer.Reset(r.note(outcomes))
		}
	}
}

// outcome is what a pass did to one chain.
type outcome struct {
	home  home
	wrong string // what was put right; "" for nothing
	err   error
}

// pass compares and, where anything differs, writes. Chains in which nothing
// is wanted are looked at until they have been swept once.
func (k *Keeper) pass(ctx context.Context, want []Rule, swept bool) []outcome {
	// Rules of an earlier run may stand in these two.
	chains := []home{{"nat", "POSTROUTING"}, {"filter", "FORWARD"}}
	here := map[home][]Rule{}
	for _, r := range want {
		h := home{r.Table, r.Chain}
		here[h] = append(here[h], r)
		if !slices.Contains(chains, h) {
			chains = append(chains, h)
		}
	}
	var out []outcome
	for _, h := range chains {
		if len(here[h]) == 0 && swept {
			continue
		}
		wrong, err := k.put(ctx, h, here[h])
		out = append(out, outcome{h, wrong, err})
		if errors.Is(err, errLocked) {
			break // the other chains would only wait as long again
		}
	}
	return out
}

// put brings one chain into the wanted state and says what was wrong with it.
func (k *Keeper) put(ctx context.Context, h home, want []Rule) (wrong string, err error) {
	lines, err := k.kernel.list(h)
	if err != nil {
		if len(want) == 0 && noSuchTable(err) {
			return "", nil
		}
		return "", fmt.Errorf("list the rules of %v: %w", h, err)
	}
	s := look(h, lines, want)
	if wrong = s.wrong(want); wrong == "" || ctx.Err() != nil {
		return "", nil
	}
	if err := k.kernel.restore(ctx, s.script(h, want)); err != nil {
		return "", fmt.Errorf("write the rules of %v: %w", h, err)
	}
	return wrong, nil
}
