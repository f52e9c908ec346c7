package main

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"flanneld/pkg/agent"
	"flanneld/pkg/condition"
	"flanneld/pkg/health"
	"flanneld/pkg/kernel"
	"flanneld/pkg/metrics"
	"flanneld/pkg/status"
	"flanneld/pkg/subnet/etcdauto"
)

// insider tells others how the running daemon is: over the socket of its
// namespace, and by /readyz and /metrics.
type insider struct {
	options options
	started time.Time
	etcd    *etcdauto.Registry
	counts  metrics.Counts
	agent   *agent.Agent

	mu       sync.Mutex
	rules    []string          // that are kept
	problems map[string]string // with the rules
}

// serve adds what the insider knows to the health server.
func (i *insider) serve(s *health.Server) {
	s.Handle("GET /readyz", health.Readiness(func(ctx context.Context) error { return i.agent.Unready(ctx) }))
	s.Handle("GET /metrics", i.counts.Handler(version, i.status))
}

// keep notes the rules that there shall be.
func (i *insider) keep(rules []string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.rules = rules
}

// heed notes what is wrong with the rules.
func (i *insider) heed(problems map[string]string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.problems = maps.Clone(problems)
}

// status is the agent's, with what only the rest of the daemon knows.
func (i *insider) status(ctx context.Context) (status.Status, error) {
	s, err := i.agent.Status(ctx)
	if err != nil {
		return s, err
	}
	d, o := s.Daemon, i.options
	d.Version, d.PID, d.Started = version, os.Getpid(), i.started
	d.SubnetFile, d.IPMasq = absolute(o.SubnetFile), o.IPMasq
	s.Etcd.Endpoints, s.Etcd.Prefix, s.Etcd.Member = o.EtcdEndpoints, o.EtcdPrefix, i.etcd.Member()
	if api := i.etcd.Chosen(); api != etcdauto.Auto {
		s.Etcd.API = api.String()
	}
	s.Etcd.KeyFile, s.Etcd.CertFile, s.Etcd.CAFile = absolute(o.EtcdKeyfile), absolute(o.EtcdCertfile), absolute(o.EtcdCAfile)
	i.mu.Lock()
	defer i.mu.Unlock()
	d.Rules = slices.Clone(i.rules)
	for _, subject := range slices.Sorted(maps.Keys(i.problems)) {
		s.Conditions.Add(condition.Condition{Code: condition.FirewallNotApplied, Subject: subject, Message: subject, Cause: i.problems[subject]})
	}
	return s, nil
}

// absolute is a path that means the same to a process in another folder.
func absolute(path string) string {
	if path == "" {
		return ""
	}
	if a, err := filepath.Abs(path); err == nil {
		return a
	}
	return path
}

// countedKernel is the kernel with its writes counted.
type countedKernel struct {
	*kernel.Netlink
	counts *metrics.Counts
}

// Do implements kernel.Conn.
func (k countedKernel) Do(ops ...kernel.Op) []error {
	errs := k.Netlink.Do(ops...)
	k.counts.Wrote(ops, errs)
	return errs
}
