package etcdmove

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"flanneld/pkg/subnet"
)

// Apply does what a plan says. A key that somebody else has written meanwhile is
// left to the next plan.
func Apply(ctx context.Context, plan []Change, from, to subnet.Registry) error {
	// Of two keys of one subnet the older is the holder's, also in the new store.
	plan = slices.Clone(plan)
	slices.SortStableFunc(plan, func(a, b Change) int { return cmp.Compare(a.Old.Created, b.Old.Created) })
	for _, c := range plan {
		if err := c.apply(ctx, from, to); err != nil && !errors.Is(err, subnet.ErrConflict) {
			return fmt.Errorf("%s %s: %w", c.Do, c.Key, err)
		}
	}
	return nil
}

func (c Change) apply(ctx context.Context, from, to subnet.Registry) error {
	e := subnet.Entry{Key: c.Key, Value: c.Old.Value, TTL: c.Old.TTL, Modified: c.New.Modified}
	var err error
	switch c.Do {
	case Copy, Replace:
		_, err = to.Put(ctx, e)
	case Prolong:
		err = prolong(ctx, to, e)
	case ProlongOld:
		e.TTL, e.Modified = c.New.TTL, c.Old.Modified
		err = prolong(ctx, from, e)
	}
	return err
}

// prolong writes what shall last for ever anew, as no store refreshes to that.
func prolong(ctx context.Context, r subnet.Registry, e subnet.Entry) error {
	if e.TTL == 0 {
		_, err := r.Put(ctx, e)
		return err
	}
	_, err := r.Refresh(ctx, e)
	return err
}

// Left are the changes of a plan that remain to be done.
func Left(plan []Change) (left []Change) {
	for _, c := range plan {
		if c.Do != Keep {
			left = append(left, c)
		}
	}
	return left
}
