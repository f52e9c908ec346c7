// Package etcdtest is what the tests of etcd's two clients have in common: the
// tests that both must pass over a real etcd, and the means of those that are
// each client's own.
package etcdtest

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"flanneld/internal/lab"
	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/etcdconn"
	"flanneld/pkg/subnet/subnettest"
)

// Registry is a client under test.
type Registry interface {
	subnet.Registry
	Member() string
	Renew(ctx context.Context, password string) error
	Close()
}

// Suite is one of the clients, with what tests must know of it.
type Suite struct {
	Kinds []Kind // the etcds that it is for; tests that need one only take the last

	New       func(etcdconn.Config) (Registry, error)
	Impatient func(etcdconn.Config) (Registry, error) // the same, giving members about a second

	// Lossy starts a proxy in front of etcd, and returns its URL. Where lose is
	// set it carries a write out, loses the reply, and unsets lose.
	Lossy func(t *testing.T, etcd *lab.Etcd, lose *atomic.Bool) string
	// EnableAuth makes users of root and of "flannel", who may do all below Prefix.
	EnableAuth func(t *testing.T, etcd *lab.Etcd, password string)
	// SetPassword gives "flannel" another one.
	SetPassword func(t *testing.T, etcd *lab.Etcd, password string)

	Unlisted  []string // keys below Prefix that this API alone does not list
	Snapshots bool     // etcdctl's are of this API
	NoLeader  string   // what a member answers to a watch when it loses the others; "": nothing
}

// Kind is a kind of etcd.
type Kind struct {
	Name string
	lab.EtcdOptions
}

// v3 tells whether the lab uses the v3 API.
func (k Kind) v3() bool { return k.API == 3 || k.Newest }

// OnEach runs a test on each kind of etcd.
func OnEach(t *testing.T, kinds []Kind, test func(t *testing.T, etcd *lab.Etcd)) {
	for _, k := range kinds {
		t.Run(k.Name, func(t *testing.T) {
			t.Parallel()
			test(t, lab.StartEtcd(t, k.EtcdOptions))
		})
	}
}

// Run runs all the tests.
func (s Suite) Run(t *testing.T) {
	t.Run("close", s.close) // while no other test has goroutines
	t.Run("conformance", s.conformance)
	for name, test := range map[string]func(*testing.T, *lab.Etcd){
		"what is listed": s.whatIsListed,
		"lifetimes":      s.lifetimes,
		"no condition":   s.noCondition,
		"restart":        s.restart,
		"go on":          s.goOn,
		"restored":       s.restored,
		"lost replies":   s.lostReplies,
		"passwords":      s.passwords,
		"a new password": s.newPassword,
		"large values":   s.largeValues,
		"idle":           s.idle,
	} {
		t.Run(name, func(t *testing.T) { OnEach(t, s.Kinds, test) })
	}
	for name, test := range map[string]func(*testing.T){
		"any member may fail":    s.anyMemberMayFail,
		"other members":          s.otherMembers,
		"a member hangs":         s.aMemberHangs,
		"network faults":         s.networkFaults,
		"TLS":                    s.tls,
		"TLS files are replaced": s.tlsFilesAreReplaced,
		"another certificate":    s.anotherCertificate,
		"server certificates":    s.serverCertificates,
		"refusals":               s.refusals,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t)
		})
	}
}

// newest starts an etcd of the last kind.
func (s Suite) newest(t *testing.T, change func(*lab.EtcdOptions)) *lab.Etcd {
	t.Helper()
	o := s.Kinds[len(s.Kinds)-1].EtcdOptions
	if change != nil {
		change(&o)
	}
	return lab.StartEtcd(t, o)
}

func (s Suite) conformance(t *testing.T) {
	for _, k := range s.Kinds {
		t.Run(k.Name, func(t *testing.T) {
			etcd := lab.StartEtcd(t, k.EtcdOptions)
			subnettest.Conformance(t, func(t *testing.T) subnet.Registry {
				prefix := "/" + strings.ReplaceAll(t.Name(), "/", "-")
				r := Open(t, etcdconn.Config{Endpoints: etcd.Endpoints(), Prefix: prefix}, s.New)
				if k.v3() {
					return compacting{r, etcd}
				}
				return r
			})
		})
	}
}

// compacting is a Registry whose etcd forgets when it is told to.
type compacting struct {
	Registry
	etcd *lab.Etcd
}

func (c compacting) Compact(t *testing.T, index uint64) { c.etcd.Compact(index) }
