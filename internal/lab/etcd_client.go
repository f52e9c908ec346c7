package lab

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netns"
	"go.etcd.io/etcd/client/v2"
)

// connect prepares the lab's own access to the cluster. Requests start in the
// network namespace of the member that they go to.
func (e *Etcd) connect() {
	e.t.Helper()
	transport := &http.Transport{DialContext: e.dial}
	if e.tls != nil {
		config, err := e.clientTLS()
		if err != nil {
			e.t.Fatalf("lab: %v", err)
		}
		transport.TLSClientConfig = config
	}
	e.transport = transport
	var urls []string
	for _, m := range e.Members {
		urls = append(urls, m.HTTP)
	}
	c, err := client.New(client.Config{
		Endpoints: urls, Transport: transport, HeaderTimeoutPerRequest: 2 * time.Second,
	})
	if err != nil {
		e.t.Fatalf("lab: %v", err)
	}
	e.client = c
}

func (e *Etcd) clientTLS() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(e.cert.CertFile, e.cert.KeyFile)
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(e.tls.File)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: pool}, nil
}

func (e *Etcd) dial(ctx context.Context, network, addr string) (conn net.Conn, err error) {
	var where EtcdMember
	for _, m := range e.Members {
		if strings.HasSuffix(m.HTTP, "//"+addr) {
			where = m.where
		}
	}
	err = inNetns(where.Netns, func() (err error) {
		conn, err = (&net.Dialer{Timeout: time.Second}).DialContext(ctx, network, addr)
		return err
	})
	return conn, err
}

// inNetns runs f on a thread in the named network namespace: the sockets and
// processes that f makes belong there for good. No name: where the program is.
func inNetns(name string, f func() error) error {
	if name == "" {
		return f()
	}
	return onThread(func() error {
		ns, err := netns.GetFromName(name)
		if err != nil {
			return fmt.Errorf("find network namespace %s: %w", name, err)
		}
		defer ns.Close()
		if err := netns.Set(ns); err != nil {
			return fmt.Errorf("enter network namespace %s: %w", name, err)
		}
		return f()
	})
}

// Client is a client of the cluster in the right network, with the lab's own
// certificate. It is for what the methods below do not offer.
func (e *Etcd) Client() client.Client { return e.client }

// ClientCert is the client certificate that the lab itself uses, with TLS.
func (e *Etcd) ClientCert() Cert { return e.cert }

// must ends the test where an operation on the keys failed.
func (e *Etcd) must(what string, err error) {
	e.t.Helper()
	if err != nil {
		e.t.Fatalf("lab: %s in etcd: %v", what, err)
	}
}

// Set writes a key without a TTL, as `etcdctl set` and `etcdctl put` do.
func (e *Etcd) Set(key, value string) {
	e.t.Helper()
	e.SetTTL(key, value, 0)
}

// SetTTL writes a key with a TTL of whole seconds; 0: without one.
func (e *Etcd) SetTTL(key, value string, ttl time.Duration) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
	defer cancel()
	e.must("set "+key, e.store.set(ctx, key, value, ttl))
}

// Delete deletes a key, and everything below it. It is no failure if there is no such
// key.
func (e *Etcd) Delete(key string) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
	defer cancel()
	e.must("delete "+key, e.store.delete(ctx, key))
}

// Get returns a key with its metadata; nil if there is no such key. A directory has its
// Nodes.
func (e *Etcd) Get(key string) *client.Node {
	e.t.Helper()
	node, err := e.read(key)
	e.must("get "+key, err)
	return node
}

func (e *Etcd) read(key string) (*client.Node, error) {
	ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
	defer cancel()
	return e.store.get(ctx, key)
}

// Keys returns every key below prefix with its value.
func (e *Etcd) Keys(prefix string) map[string]string {
	e.t.Helper()
	found := map[string]string{}
	collect(e.Get(prefix), found)
	return found
}

func collect(n *client.Node, into map[string]string) {
	if n == nil {
		return
	}
	if !n.Dir {
		into[n.Key] = n.Value
	}
	for _, child := range n.Nodes {
		collect(child, into)
	}
}

// Dump is every key below prefix in a line of its own, sorted. It is for
// reports: if etcd does not answer, it is the error.
func (e *Etcd) Dump(prefix string) string {
	node, err := e.read(prefix)
	if err != nil {
		return fmt.Sprintf("(etcd does not answer: %v)\n", err)
	}
	found := map[string]string{}
	collect(node, found)
	var lines strings.Builder
	for _, key := range slices.Sorted(maps.Keys(found)) {
		fmt.Fprintf(&lines, "%s = %s\n", key, found[key])
	}
	return lines.String()
}
