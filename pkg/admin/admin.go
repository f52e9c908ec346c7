// Package admin is what operators do to the keys in the store: write the
// config, reserve subnets and take them back. Each change is planned first, so
// that people can be asked about it, and then written only if the store is as
// it was when it was planned.
package admin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"flanneld/pkg/backend"
	"flanneld/pkg/subnet"
	"flanneld/pkg/underlay"
)

// Admin works on the keys of one cluster.
type Admin struct {
	Store    subnet.Registry
	Backends map[string]backend.Factory // by the config key's Backend.Type
	Underlay func() underlay.Known      // nil: nothing is known of it
	Dir      subnet.Dir                 // of the keys in etcd, for people; nil: not known
}

// Change is one planned write.
type Change struct {
	Done     string   // what will have been done, for people
	Question string   // to be answered with yes before; "": there is nothing to ask
	Notes    []string // what should be known besides
	entry    subnet.Entry
	remove   bool
	nothing  bool
}

// Do writes a change.
func (a Admin) Do(ctx context.Context, c Change) error {
	var err error
	switch {
	case c.nothing:
		return nil
	case c.remove:
		err = a.Store.Delete(ctx, c.entry)
	default:
		_, err = a.Store.Put(ctx, c.entry)
	}
	if errors.Is(err, subnet.ErrConflict) {
		return fmt.Errorf("nothing was written, as somebody else has changed %s in this moment: look at it, and try again",
			a.name(c.entry.Key))
	}
	return err
}

// name is a key as it is in etcd.
func (a Admin) name(key string) string { return a.Dir.Key(key) }

// Read lists what there is.
func (a Admin) Read(ctx context.Context) (subnet.Contents, error) {
	list := a.Store.List
	if s, ok := a.Store.(interface {
		ListExact(context.Context) (subnet.Snapshot, error)
	}); ok { // with the expiry of every lease
		list = s.ListExact
	}
	snapshot, err := list(ctx)
	if err != nil {
		return subnet.Contents{}, err
	}
	return snapshot.Read(time.Now()), nil
}

// config is the one in the store.
func (a Admin) config(c subnet.Contents) (subnet.Config, error) {
	if c.Config.Modified == 0 {
		return subnet.Config{}, c.NoConfig
	}
	text, err := c.Config.Text()
	if err != nil {
		return subnet.Config{}, fmt.Errorf("the config key %w", err)
	}
	config, _, err := a.Check(text)
	if err != nil {
		return config, fmt.Errorf("the config key is wrong: %w", err)
	}
	return config, nil
}
