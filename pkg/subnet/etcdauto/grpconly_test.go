package etcdauto

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"flanneld/internal/etcdtest"
	"flanneld/internal/lab"
	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/etcdconn"
	"flanneld/pkg/subnet/etcdv2"
)

// TestOnlyGRPC has members whose client URLs speak gRPC alone
// (--listen-client-http-urls), so that a v2 request is not even understood.
func TestOnlyGRPC(t *testing.T) {
	ca := lab.NewCA(t, "ca")
	for name, o := range map[string]lab.EtcdOptions{
		"3.5":                         {NoV2: true},
		"3.5 with v2 at another URL":  {},
		"the newest":                  {Newest: true},
		"3.5 by TLS":                  {NoV2: true, TLS: ca},
		"3.5 by TLS, with v2 as well": {TLS: ca},
		"the newest by TLS":           {Newest: true, TLS: ca},
	} {
		t.Run(name, func(t *testing.T) {
			o.OnlyGRPC = true
			etcd := lab.StartEtcd(t, o)
			c := etcdconn.Config{Endpoints: etcd.Endpoints()}
			if o.TLS != nil {
				cert := ca.Client("client", time.Hour)
				c.CAFile, c.CertFile, c.KeyFile = ca.File, cert.CertFile, cert.KeyFile
			}
			auto := func(c etcdconn.Config) (*Registry, error) { return New(c, Auto) }
			r := etcdtest.Open(t, c, auto)
			if s := etcdtest.List(t, r); s.Cluster == "" || r.Chosen() != Auto {
				t.Errorf("chose %v with %+v", r.Chosen(), s)
			}
			etcd.API(3).Set(config, "{}")
			if s := etcdtest.List(t, r); len(s.Entries) != 1 || r.Chosen() != V3 {
				t.Errorf("chose %v with %+v", r.Chosen(), s)
			}
			for range 50 { // which comes first, the reply or the end of the connection, is chance
				etcdtest.List(t, etcdtest.Open(t, c, auto))
			}
			v2 := etcdtest.Open(t, c, etcdv2.New)
			for range 2 {
				_, err := v2.List(t.Context())
				etcdtest.WantError(t, err, etcd.Endpoints()[0]+": does not serve etcd's v2 API")
			}
		})
	}
}

// TestOneURLServesV2 has one URL for gRPC and one for v2.
func TestOneURLServesV2(t *testing.T) {
	etcd := lab.StartEtcd(t, lab.EtcdOptions{OnlyGRPC: true})
	etcd.API(2).Set(config, "2")
	etcd.API(3).Set(config, "3")
	m := etcd.Members[0]
	for range 10 { // whichever is asked first
		c := etcdconn.Config{Endpoints: []string{m.Endpoint, m.HTTP}}
		r := etcdtest.Open(t, c, func(c etcdconn.Config) (*Registry, error) { return New(c, Auto) })
		if etcdtest.List(t, r); r.Chosen() != V2 {
			t.Errorf("chose %v", r.Chosen())
		}
	}
}

// TestV2IsCutOff lets nothing of the v2 API through to an etcd that serves it.
// The v3 API works, and yet it must not be chosen.
func TestV2IsCutOff(t *testing.T) {
	etcd := lab.StartEtcd(t, lab.EtcdOptions{})
	etcd.API(2).Set(config, "2")
	etcd.API(3).Set(config, "3")
	for name, refuse := range map[string]func(*net.TCPConn){
		"closed":  func(c *net.TCPConn) { _ = c.CloseWrite() },
		"reset":   func(c *net.TCPConn) { _ = c.SetLinger(0) },
		"silent":  func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) },
		"garbage": func(c *net.TCPConn) { _, _ = io.WriteString(c, "\x00\x00\x00 no frame of any kind\r\n\r\n") },
		"half":    func(c *net.TCPConn) { _, _ = io.WriteString(c, "\x00\x00") },
		"busy":    func(c *net.TCPConn) { _, _ = io.WriteString(c, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n") },
	} {
		t.Run(name, func(t *testing.T) {
			c := etcdconn.Config{Endpoints: []string{"http://" + onlyHTTP2(t, etcd.Endpoints()[0], refuse)}}
			r := etcdtest.Open(t, c, func(c etcdconn.Config) (*Registry, error) { return New(c, Auto) })
			s, err := r.List(t.Context())
			if err == nil || errors.Is(err, etcdv2.ErrNotServed) || r.Chosen() != Auto {
				t.Errorf("chose %v with %+v, %v", r.Chosen(), s, err)
			}
			if _, err := r.stores[V3].List(t.Context()); err != nil {
				t.Errorf("v3: %v", err)
			}
			if _, err := r.Put(t.Context(), subnet.Entry{Key: "a"}); err == nil {
				t.Error("written into who knows what")
			}
		})
	}
}

// onlyHTTP2 is the address of a proxy that carries HTTP/2, and refuses the rest.
func onlyHTTP2(t *testing.T, to string, refuse func(*net.TCPConn)) string {
	t.Helper()
	return etcdtest.Listen(t, func(client *net.TCPConn) {
		in := bufio.NewReader(client)
		if begin, err := in.Peek(3); err != nil || string(begin) != "PRI" {
			_, _ = in.Discard(in.Buffered())
			refuse(client)
			return
		}
		server, err := net.Dial("tcp", strings.TrimPrefix(to, "http://"))
		if err != nil {
			return
		}
		go func() {
			_, _ = io.Copy(server, in)
			server.Close()
		}()
		_, _ = io.Copy(client, server)
	})
}
