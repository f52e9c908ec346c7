package lab

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/client/v2"
)

// EtcdOptions describe a cluster.
type EtcdOptions struct {
	Members  []EtcdMember // none: one member on the loopback interface
	TLS      *CA          // https, with client certificates required; nil: http
	NoV2     bool         // as etcd comes since 3.4: without the v2 API
	OnlyGRPC bool         // the client URLs speak gRPC alone, and HTTP has URLs of its own
	Newest   bool         // the newest release, which has no v2 API, in place of 3.5
	API      int          // by which the lab itself writes and reads keys: 2, 3; 0: 2 where there is one
	Args     []string     // further flags of etcd
}

// EtcdMember is the place of a member.
type EtcdMember struct {
	Netns string // name of its network namespace; empty: the program's own
	IP    string // a loopback address: free ports there; any other: 2379 and 2380
}

// Etcd is a running cluster.
type Etcd struct {
	Members []*Member

	t    TB
	dir  string
	tls  *CA
	cert Cert // the lab's own, for TLS

	transport *http.Transport
	client    client.Client
	store     store
}

// StartEtcd starts a cluster that ends with t, and waits until it is ready.
// When the test has failed, the end of each member's log is printed.
func StartEtcd(t TB, o EtcdOptions) *Etcd {
	t.Helper()
	find := etcdBinary
	if o.Newest {
		find, o.NoV2 = newestBinary, true
	}
	binary, err := find()
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
	if len(o.Members) == 0 {
		o.Members = []EtcdMember{{IP: "127.0.0.1"}}
	}
	e := &Etcd{t: t, dir: t.TempDir(), tls: o.TLS}
	if e.tls != nil {
		e.cert = e.tls.Client("lab", 24*time.Hour)
	}
	for i, where := range o.Members {
		e.Members = append(e.Members, e.newMember(binary, fmt.Sprintf("etcd-%d", i+1), where, o.OnlyGRPC))
	}
	e.configure(o)
	t.Cleanup(e.close)
	e.connect()
	e.store = e.stores(o)
	e.Start()
	return e
}

// configure composes the flags. A single member elects itself at once; a larger
// cluster keeps etcd's default timing, which also works on a busy machine.
func (e *Etcd) configure(o EtcdOptions) {
	var cluster, ips []string
	for _, m := range e.Members {
		cluster = append(cluster, m.name+"="+m.peerURL)
		ips = append(ips, m.where.IP)
	}
	common := []string{
		"--initial-cluster=" + strings.Join(cluster, ","),
		"--unsafe-no-fsync", "--log-level=warn", "--socket-reuse-port",
	}
	if !o.NoV2 {
		common = append(common, "--enable-v2")
	}
	if len(e.Members) == 1 {
		common = append(common, "--heartbeat-interval=10", "--election-timeout=100")
	}
	if e.tls != nil {
		server := e.tls.Server("etcd", 24*time.Hour, ips...)
		common = append(common, "--client-cert-auth", "--trusted-ca-file="+e.tls.File,
			"--cert-file="+server.CertFile, "--key-file="+server.KeyFile)
	}
	for _, m := range e.Members {
		m.args = slices.Concat([]string{
			"--name=" + m.name, "--data-dir=" + m.data,
			"--listen-client-urls=" + m.Endpoint, "--advertise-client-urls=" + m.Endpoint,
			"--listen-peer-urls=" + m.peerURL, "--initial-advertise-peer-urls=" + m.peerURL,
		}, common, o.Args)
		if o.OnlyGRPC {
			m.args = append(m.args, "--listen-client-http-urls="+m.HTTP)
		}
	}
}

// stores chooses the API.
func (e *Etcd) stores(o EtcdOptions) store {
	if o.API == 3 || o.API == 0 && o.NoV2 {
		return storeV3{e}
	}
	return storeV2{e.client}
}

// API is the same cluster, whose keys are written and read by API 2 or 3.
func (e *Etcd) API(version int) *Etcd {
	other := *e
	other.store = other.stores(EtcdOptions{API: version})
	return &other
}

// close ends every member. After a failure it prints their logs first.
func (e *Etcd) close() {
	for _, m := range e.Members {
		if e.t.Failed() {
			e.t.Logf("log of %s at %s:\n%s", m.name, m.Endpoint, tail(m.Log(), 20))
		}
		m.Kill()
	}
	e.transport.CloseIdleConnections()
}

// Endpoints are the members' URLs, as --etcd-endpoints takes them.
func (e *Etcd) Endpoints() []string {
	var all []string
	for _, m := range e.Members {
		all = append(all, m.Endpoint)
	}
	return all
}

// each does the same to all members, and returns when it is done to all.
func (e *Etcd) each(do ...func(*Member)) {
	e.t.Helper()
	for _, step := range do {
		for _, m := range e.Members {
			step(m)
		}
	}
}

// Start starts every member that does not run, and waits until all are ready.
func (e *Etcd) Start() {
	e.t.Helper()
	e.each((*Member).start, (*Member).waitReady)
}

// Stop ends every member. What was written is there after Start.
func (e *Etcd) Stop() {
	e.t.Helper()
	e.each((*Member).interrupt, (*Member).waitEnd)
}

// Kill ends every member at once, as a power cut would.
func (e *Etcd) Kill() {
	e.t.Helper()
	e.each((*Member).Kill)
}

// Wipe replaces the cluster by an empty one whose index starts anew.
func (e *Etcd) Wipe() {
	e.t.Helper()
	e.Kill()
	e.each(e.removeData)
	e.Start()
}
