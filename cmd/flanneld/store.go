package main

import (
	"context"
	"strings"
	"time"

	"flanneld/internal/cli"
	"flanneld/pkg/daemon"
	"flanneld/pkg/status"
	"flanneld/pkg/subnet/etcdauto"
)

// etcd is what the flags say of etcd, with the password that may be in a file.
func (o options) etcd() (daemon.Etcd, error) {
	e := o.Etcd
	var err error
	e.Password, err = e.ReadPassword()
	return e, err
}

// openStore prepares access to etcd by the flags about it.
func openStore(o options) (*etcdauto.Registry, error) {
	e, err := o.etcd()
	if err != nil {
		return nil, err
	}
	return e.Open()
}

// fromStore is the cluster as etcd alone has it.
func fromStore(ctx context.Context, o options) (status.Status, error) {
	r, err := openStore(o)
	if err != nil {
		return status.Status{}, err
	}
	defer r.Close()
	snapshot, err := r.ListExact(ctx)
	if err != nil {
		return status.Status{}, err
	}
	now := time.Now()
	etcd := status.Etcd{Endpoints: o.Etcd.Endpoints, Prefix: r.Dir(), Member: r.Member()}
	if api := r.Chosen(); api != etcdauto.Auto {
		etcd.API = api.String()
	}
	return status.FromStore(snapshot.Read(now), etcd, now), nil
}

// onlyEtcd hides the rest of the daemon's environment from a command.
func onlyEtcd(env func(string) (string, bool)) func(string) (string, bool) {
	return func(name string) (string, bool) {
		if !strings.HasPrefix(name, cli.EnvName("etcd-")) && name != cli.EnvName(keyFileFlag) {
			return "", false
		}
		return env(name)
	}
}
