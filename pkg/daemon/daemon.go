// Package daemon is the flanneld that runs on each host: it wires the parts in
// the other packages together, and runs them until the first of them ends.
package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/signal"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"

	"flanneld/pkg/agent"
	"flanneld/pkg/backend"
	"flanneld/pkg/backend/alloc"
	"flanneld/pkg/backend/hostgw"
	"flanneld/pkg/backend/udp"
	"flanneld/pkg/backend/vxlan"
	"flanneld/pkg/backend/wireguard"
	"flanneld/pkg/condition"
	"flanneld/pkg/extif"
	"flanneld/pkg/filewatch"
	"flanneld/pkg/health"
	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
	"flanneld/pkg/monitor"
	"flanneld/pkg/probe"
	"flanneld/pkg/status"
	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/etcdauto"
	"flanneld/pkg/subnet/etcdconn"
	"flanneld/pkg/wgdevice"
)

// store is where the config key and the leases are kept.
type store interface {
	subnet.Registry
	Member() string       // the URL of the etcd member that answered last
	Dir() string          // the directory of the keys
	Chosen() etcdauto.API // Auto: not known yet
	Renew(ctx context.Context, password string) error
}

// task is a part of the daemon that works until its context ends.
type task interface {
	Run(context.Context) error
	String() string
}

// Run works on the network namespace of the process until ctx ends or a part
// fails. Routes, devices and rules stay. A namespace has room for one daemon of a
// prefix: a second one ends at once with an error. Call it from the main goroutine.
func Run(ctx context.Context, o Options) error {
	// The log's reader may end before us, as supervisord and journald do: a write
	// fails then, and must not end the daemon.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	hangup := hangups()
	klog.InfoS("Starting flanneld", "version", o.Version, "pid", os.Getpid(),
		"endpoints", o.Etcd.Endpoints, "prefix", o.Etcd.Prefix)
	if err := underSupervisord(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	o.Etcd.Addresses = etcdconn.NewAddresses(o.Etcd.Endpoints)
	registry, err := o.Etcd.Open()
	if err != nil {
		return err
	}
	defer registry.Close()
	return run(ctx, o, registry, hangup)
}

func run(ctx context.Context, o Options, registry store, hangup <-chan os.Signal) error {
	lock, err := lockNamespace(cmp.Or(o.Etcd.Prefix, status.DefaultPrefix))
	if err != nil {
		return err
	}
	defer lock.Close()
	only := newExclusive()
	defer only.close()
	if err := only.hold(aFile, absolute(o.SubnetFile), "the subnet file"); err != nil {
		return fmt.Errorf("%w: give each its own --subnet-file", err)
	}
	conn, err := kernel.Open(inet.Families()...)
	if err != nil {
		return err
	}
	defer conn.Close()
	kept := health.Inherited()
	conn.Store = kept
	changes, err := conn.Watch()
	if err != nil {
		return err
	}
	former := formerEnv(o.SubnetFile)
	resumed, err := conn.Ours(former.Networks())
	if err != nil {
		return err
	}
	if o.Etcd.Addresses == nil {
		o.Etcd.Addresses = etcdconn.NewAddresses(o.Etcd.Endpoints)
	}
	inside := &introspection{options: o, started: time.Now(), etcd: registry}
	inside.changes.Note("flanneld " + o.Version + " started")
	wrong := &condition.Set{Note: inside.changes.Note}
	manager := subnet.NewManager(inside.counts.Registry(registry), subnet.Options{
		RenewMargin: o.LeaseRenewMargin, Previous: former.Subnets(), Resumed: resumed, Conditions: wrong,
		Dir: registry.Dir, Command: func(words ...string) string {
			e := o.Etcd
			e.API = registry.Chosen()
			return e.Command(words...)
		},
	})
	rules, err := newFirewall(o, former.Networks(), inside, wrong)
	if err != nil {
		return err
	}
	file, key := filewatch.New(o.SubnetFile), filewatch.New(o.WireGuardKeyFile)
	ready := &atomic.Bool{}
	renewing := &reloads{
		asked: hangup, etcd: o.Etcd, store: registry, wrong: wrong,
		ready: ready, notify: health.Notify, clock: monotonic,
	}
	tasks := append([]task{lock, changes, manager, file, key, renewing}, rules.tasks...)
	if o.HealthzPort > 0 {
		server, err := health.Listen(netip.AddrPortFrom(o.HealthzIP, o.HealthzPort))
		if err != nil {
			return err
		}
		inside.serve(server)
		tasks = append(tasks, server)
	}
	inside.agent = agent.New(agent.Options{
		Leases: manager, Kernel: countedKernel{conn, &inside.counts}, Changes: changes, Needs: needs{o.Etcd.Addresses},
		Backends: Backends(),
		External: extif.Options{
			Ifaces: o.Ifaces, Regexes: o.IfaceRegexes, CanReach: o.CanReach, PublicIP: o.PublicIP, PublicIPv6: o.PublicIPv6,
		},
		Dir:        registry.Dir,
		PrivateKey: o.privateKey,
		KeyChanges: key,
		SubnetFile: o.SubnetFile, Former: former, FileChanges: file, IPMasq: o.IPMasq,
		Note: inside.changes.Note, Ready: announce(kept, ready), Applied: inside.counts.Applied,
		SetRules: rules.set, UnsetRules: rules.unset, Exclusive: only, Conditions: wrong,
	})
	lock.status = inside.status
	if o.PeerProbes {
		inside.monitor = monitor.New(monitor.Options{
			Paths: inside.agent.Paths, Gather: probe.Gather, Count: inside.counts.Probed,
		})
		tasks = append(tasks, inside.monitor)
	}
	return runAll(ctx, append(tasks, inside.agent))
}

// privateKey is WireGuard's, of the file.
func (o Options) privateKey() (wgdevice.Secret, error) {
	secret, err := wgdevice.LoadKey(o.WireGuardKeyFile)
	return secret, condition.Coded(condition.KeyUnusable, err)
}

// Backends are all there are, by the config key's Backend.Type.
func Backends() map[string]backend.Factory {
	return map[string]backend.Factory{
		alloc.Type: alloc.New, hostgw.Type: hostgw.New, udp.Type: udp.New, vxlan.Type: vxlan.New,
		wireguard.Type: wireguard.New,
	}
}

// runAll ends all tasks when the first of them ends.
func runAll(ctx context.Context, tasks []task) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, t := range tasks {
		group.Go(func() error { return runTask(ctx, t) })
	}
	err := group.Wait()
	klog.InfoS("Stopping flanneld, routes, devices and rules stay")
	klog.Flush()
	return err
}

func runTask(ctx context.Context, t task) error {
	if err := t.Run(ctx); err != nil {
		return fmt.Errorf("%v: %w", t, err)
	}
	return nil
}

// announce is for the first time that everything is in place: what of the descriptors nobody
// has taken by then is of a mode that is over.
func announce(kept *health.Descriptors, ready *atomic.Bool) func(subnet.Lease) {
	return func(own subnet.Lease) {
		klog.InfoS("Ready", "subnet", own.Subnets(), "expires", own.Ends())
		health.Notify("READY=1", "STATUS=serving "+own.Subnets().String())
		ready.Store(true)
		if err := kept.ForgetRest(); err != nil {
			klog.ErrorS(err, "Could not let go of descriptors of an earlier run")
		}
		debug.FreeOSMemory() // the first list of a large cluster leaves much behind
	}
}

// formerEnv reads which subnet this host had, or was given by hand, and of which
// network. One that does not hold the subnet is nobody's.
func formerEnv(path string) subnet.Env {
	env, err := subnet.ReadEnv(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		klog.ErrorS(err, "Cannot read the subnet file, starting as if what cannot be read were not there", "file", path)
	}
	if env.Subnet.IsValid() && !env.Network.Overlaps(env.Subnet) {
		env.Network = netip.Prefix{}
	}
	if env.IPv6Subnet.IsValid() && !env.IPv6Network.Overlaps(env.IPv6Subnet) {
		env.IPv6Network = netip.Prefix{}
	}
	return env
}
