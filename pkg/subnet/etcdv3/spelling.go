package etcdv3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"k8s.io/klog/v2"

	"flanneld/pkg/subnet"
)

// To the v3 API "/a/b" and "a/b" are two directories, and flannel 0.28 goes by the one
// that is written. By the v2 API they are one, so operators write either. All hosts of
// a cluster must come to the same one, whatever each of them writes, so it hangs on
// what is in the store alone:
//
//  1. Leases of hosts lie in one of the two alone: that one. A config key that is written
//     to the other one by mistake, or that is away for a moment, moves nobody. A key that
//     never ends is no sign of a host.
//  2. Otherwise the one with the config key; where both have one, that with the slash,
//     as in the v2 store.
//  3. Where there is no config key, both are watched until one has it. The first one is
//     written where leases of hosts lie, or else as the prefix is written.
//
// A directory that this client may not read counts as empty. The one in which the
// config key was found stands for as long as the Registry.
type spelling struct {
	dirs    [2]string // the one in use first
	settled bool
	denied  bool // the other one may not be read
}

func spell(c Config) spelling {
	dirs := c.Spellings()
	return spelling{dirs: dirs, settled: dirs[0] == dirs[1]}
}

// Dir is the directory of all keys: the one in which the config key lies, and until
// that is known the one to write it to.
func (r *Registry) Dir() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dirs[0]
}

// spellings are the directory in use, and the other one as long as it may be meant as
// well; "": it is not.
func (r *Registry) spellings() (dir, other string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if dir = r.dirs[0]; !r.settled && !r.denied {
		other = r.dirs[1]
	}
	return dir, other
}

// use notes which directory is in use.
func (r *Registry) use(dir string, settled, denied bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dirs[0] != dir {
		slices.Reverse(r.dirs[:])
	}
	r.settled, r.denied = settled, denied
}

// settle lists the directory that is meant.
func (r *Registry) settle(ctx context.Context) (listing, error) {
	r.mu.Lock()
	now := r.spelling
	r.mu.Unlock()
	dir, other := now.dirs[0], now.dirs[1]
	here, err := r.listDir(ctx, dir, 0)
	refused := errors.Is(err, fs.ErrPermission)
	if now.settled || err != nil && !refused {
		return here, err
	}
	there, failed := r.listDir(ctx, other, here.revision)
	denied := errors.Is(failed, fs.ErrPermission)
	switch {
	case refused && denied:
		return here, err
	case failed != nil && !denied:
		return there, failed
	}
	both := here.hasConfig() && there.hasConfig()
	if refused || !denied && there.meant(here) {
		here, there, denied = there, here, refused
	}
	if both {
		klog.ErrorS(nil, "The prefix means two directories of etcd's v3 API, and both have a config key",
			"used", here.dir+"/"+subnet.ConfigKey, "ignored", there.dir+"/"+subnet.ConfigKey,
			"advice", "delete the one that is ignored; if that is the cluster's, delete the other one and restart all hosts")
	}
	r.use(here.dir, here.hasConfig(), denied)
	return here, nil
}

// meant tells whether l is the cluster's, rather than the one that is in use so far.
func (l listing) meant(used listing) bool {
	switch {
	case l.hasHosts() != used.hasHosts():
		return l.hasHosts()
	case l.hasConfig() != used.hasConfig():
		return l.hasConfig()
	}
	return l.hasConfig() && strings.HasPrefix(l.dir, "/")
}

func (l listing) hasConfig() bool { return l.snapshot.Has(subnet.ConfigKey) }

// hasHosts tells whether leases with a lifetime are there.
func (l listing) hasHosts() bool {
	for i, e := range l.snapshot.Entries {
		if l.leases[i] != 0 && strings.HasPrefix(e.Key, subnet.LeaseDir+"/") {
			return true
		}
	}
	return false
}

// errConfigCame ends a watch of both directories.
var errConfigCame = fmt.Errorf("a config key has come where the prefix is spelt otherwise: %w", subnet.ErrHistoryLost)

// told looks at what a watch tells, as long as it is not known which directory is meant.
// A config key that comes in the one that is in use settles that; one in the other makes
// it necessary to list again.
func (r *Registry) told(
	ctx context.Context, dir string, all []*mvccpb.Event, events []subnet.Event, after uint64,
) error {
	now, other := r.spellings()
	if other == "" || now != dir {
		return nil
	}
	for _, e := range all {
		key, revision := string(e.GetKv().GetKey()), uint64(e.GetKv().GetModRevision())
		if key == other+"/"+subnet.ConfigKey && e.Type == mvccpb.PUT && revision > after {
			return errConfigCame
		}
	}
	if !slices.ContainsFunc(events, bringsConfig) {
		return nil
	}
	switch there, err := r.get(ctx, other+"/"+subnet.ConfigKey); {
	case err != nil && !errors.Is(err, fs.ErrPermission):
		return err
	case there != nil:
		return errConfigCame
	}
	r.use(dir, true, false)
	return nil
}

func bringsConfig(e subnet.Event) bool { return e.Key == subnet.ConfigKey && !e.Deleted }

// absentElsewhere is what must hold besides where the first config key is created: the
// other directory has none.
func (r *Registry) absentElsewhere(dir string, e subnet.Entry) []*pb.Compare {
	now, other := r.spellings()
	if e.Key != subnet.ConfigKey || e.Modified != 0 || now != dir || other == "" {
		return nil
	}
	return []*pb.Compare{{
		Target: pb.Compare_CREATE, Result: pb.Compare_EQUAL, Key: []byte(other + "/" + subnet.ConfigKey),
		TargetUnion: &pb.Compare_CreateRevision{CreateRevision: 0},
	}}
}
