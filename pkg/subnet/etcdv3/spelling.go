package etcdv3

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

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
//  1. The config key lies in one of the two: that one.
//  2. It lies in both: the one with leases.
//  3. It lies in neither: both are watched until one has it. Whoever writes the first
//     one writes it where leases lie, or else where the prefix is written.
//
// A directory that this client may not read counts as empty. What is found stands for
// as long as the Registry.
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
	config := here.snapshot.Has(subnet.ConfigKey)
	there, failed := r.glance(ctx, other, config)
	if failed != nil {
		return here, failed
	}
	switch {
	case refused && there.denied:
		return here, err
	case config && there.config && here.leased() == there.leased:
		return here, r.twoConfigs(dir, other, there.leased)
	case config && !(there.config && there.leased):
		r.use(dir, true, false)
		return here, nil
	case there.config, !config && there.leased && !here.leased(), refused:
		here, err = r.listDir(ctx, other)
		r.use(other, err == nil && here.snapshot.Has(subnet.ConfigKey), refused)
		return here, err
	}
	r.use(dir, false, there.denied)
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

// glance looks whether a directory has a config key, and leases; these where the config
// keys do not tell which directory is meant, as the other has one too, or none either.
func (r *Registry) glance(ctx context.Context, dir string, otherHas bool) (has contents, err error) {
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
	if has.config != otherHas {
		return has, nil
	}
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

// watchBoth follows one directory, and looks for a config key in the other one: where
// that comes first, the next list shows what is there.
func (r *Registry) watchBoth(
	ctx context.Context, dir, other string, after uint64, emit func([]subnet.Event),
) error {
	watching, end := context.WithCancelCause(ctx)
	defer end(nil)
	beside, settled := context.WithCancel(watching)
	defer settled()
	var both sync.WaitGroup
	both.Go(func() {
		err := r.watch(beside, other, after, func(events []subnet.Event) {
			if slices.ContainsFunc(events, bringsConfig) {
				end(errConfigCame)
			}
		})
		if beside.Err() == nil {
			end(err)
		}
	})
	err := r.watch(watching, dir, after, func(events []subnet.Event) {
		if beside.Err() == nil && slices.ContainsFunc(events, bringsConfig) {
			if there, err := r.glance(watching, other, true); there.config || err != nil {
				end(cmp.Or(err, errConfigCame))
				return
			}
			r.use(dir, true, false)
			settled()
		}
		emit(events)
	})
	end(err)
	both.Wait()
	return context.Cause(watching)
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
