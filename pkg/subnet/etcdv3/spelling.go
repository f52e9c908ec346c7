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

	"flanneld/pkg/printable"
	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/etcdconn"
)

// To the v3 API "/a/b" and "a/b" are two directories, and flannel 0.28 goes by the one
// that is written. By the v2 API they are one, so operators write either. All hosts of
// a cluster must come to the same one, whatever each of them writes, so it hangs on
// what is in the store alone:
//
//  1. Leases lie in one of the two alone: that one, as the hosts are there. A config
//     key that is written to the other one by mistake, or that is away for a moment,
//     moves nobody.
//  2. Otherwise the one with the config key; that both have one is an error.
//  3. Where there is no config key, both are watched until one has it. The first one is
//     written where leases lie, or else as the prefix is written.
//
// A directory that this client may not read counts as empty. The one in which the
// config key was found stands for as long as the Registry.
type spelling struct {
	dirs    [2]string // the one in use first
	settled bool
	denied  bool // the other one may not be read
}

// ErrTwoConfigs says that each of both directories may be the cluster's.
var ErrTwoConfigs = errors.New("the prefix means two directories")

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
	here, err := r.listDir(ctx, dir)
	refused := errors.Is(err, fs.ErrPermission)
	if now.settled || err != nil && !refused {
		return here, err
	}
	there, failed := r.glance(ctx, other)
	if failed != nil {
		return here, failed
	}
	has := contents{here.snapshot.Has(subnet.ConfigKey), here.leased(), refused}
	alike := has.leased == there.leased
	switch {
	case refused && there.denied:
		return here, err
	case alike && has.config && there.config:
		return here, r.twoConfigs(dir, other, there.leased)
	case there.leased && !has.leased, alike && there.config, refused:
		here, err = r.listDir(ctx, other)
		r.use(other, err == nil && here.snapshot.Has(subnet.ConfigKey), refused)
		return here, err
	}
	r.use(dir, has.config, there.denied)
	return here, nil
}

// twoConfigs says what people have to do.
func (r *Registry) twoConfigs(dir, other string, leased bool) error {
	where := "neither"
	if leased {
		where = "both"
	}
	var shown, removes []string
	for _, d := range []string{dir, other} {
		key := etcdconn.Printable(d + "/" + subnet.ConfigKey)
		shown = append(shown, printable.Word(key))
		removes = append(removes, r.remove(key))
	}
	return fmt.Errorf("%w: config keys lie at %s, and leases below %s of them: "+
		"remove the key that is not this cluster's, by: %s", ErrTwoConfigs, strings.Join(shown, " and at "), where,
		strings.Join(removes, " or: "))
}

// remove is a command for a shell. Whoever types it is asked for the password.
func (r *Registry) remove(key string) string {
	args := []string{"--endpoints=" + strings.Join(r.config.Endpoints, ",")}
	for _, option := range [][2]string{
		{"cacert", r.config.CAFile}, {"cert", r.config.CertFile}, {"key", r.config.KeyFile}, {"user", r.config.Username},
	} {
		if option[1] != "" {
			args = append(args, "--"+option[0]+"="+option[1])
		}
	}
	return printable.Command("etcdctl", append(args, "del", key)...)
}

func (l listing) leased() bool {
	return slices.ContainsFunc(l.snapshot.Entries, func(e subnet.Entry) bool {
		return strings.HasPrefix(e.Key, subnet.LeaseDir+"/")
	})
}

// contents is what a directory has.
type contents struct{ config, leased, denied bool }

// glance looks whether a directory has a config key, and leases.
func (r *Registry) glance(ctx context.Context, dir string) (has contents, err error) {
	defer func() {
		if errors.Is(err, fs.ErrPermission) {
			has, err = contents{denied: true}, nil
		}
	}()
	config := dir + "/" + subnet.ConfigKey
	reply, err := r.ranged(ctx, &pb.RangeRequest{Key: []byte(config), KeysOnly: true})
	if err != nil {
		return has, err
	}
	has.config = slices.ContainsFunc(reply.Kvs, func(kv *mvccpb.KeyValue) bool { return string(kv.GetKey()) == config })
	first, end := below(etcdconn.LeaseDir(dir))
	reply, err = r.ranged(ctx, &pb.RangeRequest{Key: first, RangeEnd: end, KeysOnly: true, Limit: 1})
	if err != nil {
		return has, err
	}
	has.leased = slices.ContainsFunc(reply.Kvs, func(kv *mvccpb.KeyValue) bool {
		return strings.HasPrefix(string(kv.GetKey()), string(first))
	})
	return has, nil
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
	there, err := r.glance(ctx, other)
	if there.config {
		err = errConfigCame
	}
	if err == nil {
		r.use(dir, true, false)
	}
	return err
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
