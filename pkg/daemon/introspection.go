package daemon

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"flanneld/pkg/agent"
	"flanneld/pkg/health"
	"flanneld/pkg/kernel"
	"flanneld/pkg/metrics"
	"flanneld/pkg/monitor"
	"flanneld/pkg/page"
	"flanneld/pkg/status"
	"flanneld/pkg/subnet/etcdauto"
)

// introspection answers how the running daemon is: over the socket of its
// namespace, by /readyz and /metrics, and by a page for browsers.
type introspection struct {
	options Options
	started time.Time
	etcd    store
	counts  metrics.Counts
	agent   *agent.Agent
	monitor *monitor.Monitor // nil: peers are not probed

	mu    sync.Mutex
	rules []string // that are kept

	changes status.History
}

// serve adds the daemon's state to the health server.
func (i *introspection) serve(s *health.Server) {
	ready := health.Readiness(func(ctx context.Context) error { return i.agent.Unready(ctx) })
	s.Handle("GET /readyz", logRequests(ready))
	s.Handle("GET /metrics", logRequests(i.counts.Handler(i.options.Version, i.status)))
	if i.options.HealthzPage {
		s.Handle("GET /{$}", logRequests(page.Handler(hostName(), i.status)))
	}
}

// hostName is this host's, or what stands for it.
func hostName() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "this host"
	}
	return name
}

func logRequests(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		h.ServeHTTP(w, r)
		if v := klog.V(3); v.Enabled() {
			v.InfoS("Answered a request", "path", r.URL.Path, "from", r.RemoteAddr, "took", time.Since(began))
		}
	})
}

// setRules notes the rules that there must be.
func (i *introspection) setRules(rules []string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.rules = rules
}

// rulesRepaired notes that rules of the firewall had to be put right.
func (i *introspection) rulesRepaired() {
	i.counts.RulesRepaired()
	i.changes.Note("put right: rules of the firewall")
}

// status is the agent's, with what only the rest of the daemon knows.
func (i *introspection) status(ctx context.Context) (status.Status, error) {
	s, err := i.agent.Status(ctx)
	if err != nil {
		return s, err
	}
	d, o := s.Daemon, i.options
	d.Version, d.PID, d.Started = o.Version, os.Getpid(), i.started
	d.SubnetFile, d.IPMasq = absolute(o.SubnetFile), o.IPMasq
	d.KeyFile = absolute(o.WireGuardKeyFile)
	s.Etcd.Endpoints, s.Etcd.Prefix, s.Etcd.Member = o.Etcd.Endpoints, i.etcd.Dir(), i.etcd.Member()
	if api := i.etcd.Chosen(); api != etcdauto.Auto {
		s.Etcd.API = api.String()
	}
	s.Etcd.KeyFile, s.Etcd.CertFile = absolute(o.Etcd.KeyFile), absolute(o.Etcd.CertFile)
	s.Etcd.CAFile = absolute(o.Etcd.CAFile)
	s.Changes = i.changes.List()
	if i.monitor != nil {
		s.Probes = i.monitor.Probes().Among(s.Peers)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	d.Rules = slices.Clone(i.rules)
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
