package main

import (
	"context"
	"time"

	"flanneld/pkg/status"
	"flanneld/pkg/subnet/etcdauto"
	"flanneld/pkg/subnet/etcdconn"
)

// openStore prepares access to etcd by the flags about it.
func openStore(o options) (*etcdauto.Registry, error) {
	password, err := o.password()
	if err != nil {
		return nil, err
	}
	return newRegistry(o, password)
}

func newRegistry(o options, password secret) (*etcdauto.Registry, error) {
	return etcdauto.New(o.etcd(password), o.EtcdAPI)
}

// etcd is what the flags say of the members and of how to get in.
func (o options) etcd(password secret) etcdconn.Config {
	return etcdconn.Config{
		Endpoints: o.EtcdEndpoints, Prefix: o.EtcdPrefix, KeyFile: o.EtcdKeyfile, CertFile: o.EtcdCertfile, CAFile: o.EtcdCAfile,
		Username: o.EtcdUsername, Password: string(password),
	}
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
	etcd := status.Etcd{Endpoints: o.EtcdEndpoints, Prefix: o.EtcdPrefix, Member: r.Member()}
	if api := r.Chosen(); api != etcdauto.Auto {
		etcd.API = api.String()
	}
	return status.FromStore(snapshot.Read(now), etcd, now), nil
}
