package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"

	"flanneld/pkg/agent"
	"flanneld/pkg/backend"
	"flanneld/pkg/backend/hostgw"
	"flanneld/pkg/backend/vxlan"
	"flanneld/pkg/extif"
	"flanneld/pkg/health"
	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
	"flanneld/pkg/subnet"
)

// task is a part of the daemon that works until its context ends.
type task interface {
	Run(context.Context) error
	String() string
}

// serve is the daemon: it wires the tasks and waits for their end.
func serve(ctx context.Context, o options) error {
	klog.Infof("flanneld %s (pid %d): etcd %s under %s", version, os.Getpid(), strings.Join(o.EtcdEndpoints, ", "), o.EtcdPrefix)
	password, err := o.password()
	if err != nil {
		return err
	}
	if err := underSupervisord(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	only, err := claimNamespace()
	if err != nil {
		return err
	}
	conn, err := kernel.Open(inet.IPv4)
	if err != nil {
		return err
	}
	defer conn.Close()
	changes, err := conn.Watch()
	if err != nil {
		return err
	}
	registry, err := newRegistry(o, password)
	if err != nil {
		return err
	}
	resumed, err := conn.Ours()
	if err != nil {
		return err
	}
	inside := &insider{options: o, started: time.Now(), etcd: registry}
	manager := subnet.NewManager(inside.counts.Registry(registry), subnet.Options{
		RenewMargin: o.LeaseRenewMargin, Previous: previousSubnet(o.SubnetFile), Resumed: resumed,
	})
	tasks := []task{only, changes, manager}
	a := agent.Options{
		Leases: manager, Kernel: countedKernel{conn, &inside.counts}, Changes: changes,
		Backends:   backends(),
		External:   extif.Options{Ifaces: o.Ifaces, Regexes: o.IfaceRegexes, PublicIP: o.PublicIP},
		SubnetFile: o.SubnetFile, IPMasq: o.IPMasq,
		Ready: announce, Applied: inside.counts.Applied,
	}
	walls, err := newFirewall(ctx, o, inside)
	if ctx.Err() != nil { // we were to end while it asked
		return nil
	}
	if err != nil {
		return err
	}
	tasks = append(tasks, walls.tasks...)
	a.SetRules = walls.set
	if o.HealthzPort > 0 {
		server, err := health.Listen(netip.AddrPortFrom(o.HealthzIP, o.HealthzPort))
		if err != nil {
			return err
		}
		inside.serve(server)
		tasks = append(tasks, server)
	}
	inside.agent = agent.New(a)
	only.ask = inside.status
	return runAll(ctx, append(tasks, inside.agent))
}

// backends are all there are, by the config key's Backend.Type.
func backends() map[string]backend.Factory {
	return map[string]backend.Factory{hostgw.Type: hostgw.New, vxlan.Type: vxlan.New}
}

// runAll ends all tasks when the first of them ends.
func runAll(ctx context.Context, tasks []task) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, t := range tasks {
		group.Go(func() error {
			if err := t.Run(ctx); err != nil {
				return fmt.Errorf("%v: %w", t, err)
			}
			return nil
		})
	}
	err := group.Wait()
	klog.Info("flanneld ends; routes, devices and rules stay")
	klog.Flush()
	return err
}

func announce(own subnet.Lease) {
	klog.Infof("ready: this host has %v, lease until %s", own.Subnet, own.Expires.Format("2006-01-02 15:04:05"))
	health.Notify("READY=1", "STATUS=serving "+own.Subnet.String())
	debug.FreeOSMemory() // the first list of a large cluster leaves much behind
}

// previousSubnet reads which subnet this host had, or was given by hand.
func previousSubnet(path string) netip.Prefix {
	env, err := subnet.ReadEnv(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		klog.Warningf("%v: starting as if it were not there", err)
	}
	return env.Subnet
}
