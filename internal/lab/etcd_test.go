package lab

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestEtcd(t *testing.T) {
	e := StartEtcd(t, EtcdOptions{})
	holds := func(want map[string]string) {
		t.Helper()
		if got := e.Keys("/"); !maps.Equal(got, want) {
			t.Errorf("etcd holds %v, want %v", got, want)
		}
	}
	holds(map[string]string{})
	e.Set("/coreos.com/network/config", "{}")
	e.SetTTL("/coreos.com/network/subnets/a", "A", time.Hour)
	e.SetTTL("/b", "B", time.Second)
	Eventually(t, waitTimeout, "the end of /b", func() error {
		if e.Get("/b") != nil {
			return errors.New("it is still there")
		}
		return nil
	})
	if node := e.Get("/coreos.com/network/subnets/a"); node == nil || node.Value != "A" || node.TTL < 3500 {
		t.Errorf("%+v", node)
	}
	both := map[string]string{"/coreos.com/network/config": "{}", "/coreos.com/network/subnets/a": "A"}
	for _, end := range []func(){e.Stop, e.Kill, e.Members[0].Stop} {
		end()
		end()
		if got := e.Dump("/"); got == "" || got[0] != '(' {
			t.Errorf("a stopped etcd is dumped as %q", got)
		}
		e.Start()
		holds(both)
	}
	const dump = "/coreos.com/network/config = {}\n/coreos.com/network/subnets/a = A\n"
	if got := e.Dump("/"); got != dump {
		t.Errorf("dumped as %q", got)
	}
	e.Delete("/coreos.com/network/subnets")
	e.Delete("/coreos.com/network/subnets")
	holds(map[string]string{"/coreos.com/network/config": "{}"})
	e.Wipe()
	holds(map[string]string{})
}

// TestPortIsHeld wants a member's port for itself.
func TestPortIsHeld(t *testing.T) {
	var at string
	listen := func() error {
		l, err := net.Listen("tcp", at)
		if err == nil {
			l.Close()
		}
		return err
	}
	t.Run("while the member is down", func(t *testing.T) {
		e := StartEtcd(t, EtcdOptions{})
		at = strings.TrimPrefix(e.Endpoints()[0], "http://")
		e.Stop()
		if err := listen(); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("Listen: %v", err)
		}
		if _, err := net.Dial("tcp", at); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("Dial: %v", err)
		}
	})
	if err := listen(); err != nil {
		t.Errorf("after the cluster's end: %v", err)
	}
}

// TestEtcdOnHosts runs a cluster as the tutorial has it.
func TestEtcdOnHosts(t *testing.T) {
	l := New(t)
	var members []EtcdMember
	for _, ip := range []string{"10.4.7.12", "10.4.7.21", "10.4.7.22"} {
		members = append(members, EtcdMember{Netns: l.Host("h"+ip, ip+"/24").Netns(), IP: ip})
	}
	e := StartEtcd(t, EtcdOptions{Members: members, TLS: NewCA(t, "ca")})
	e.Set("/a", "A")
	e.Members[1].Kill()
	e.Set("/b", "B")
	e.Members[1].Start()
	if got := e.Dump("/"); got != "/a = A\n/b = B\n" {
		t.Errorf("dumped as %q", got)
	}
	if got := e.Endpoints()[1]; got != "https://10.4.7.21:2379" {
		t.Errorf("endpoint %s", got)
	}
}

// TestDeleteWithAHungMember deletes by whichever member the client asks first.
func TestDeleteWithAHungMember(t *testing.T) {
	e := StartEtcd(t, EtcdOptions{Members: []EtcdMember{{IP: "127.0.0.1"}, {IP: "127.0.0.2"}, {IP: "127.0.0.3"}}})
	for i, m := range e.Members {
		key := fmt.Sprintf("/%d", i)
		e.Set(key, "")
		m.Signal(syscall.SIGSTOP)
		e.Delete(key)
		m.Signal(syscall.SIGCONT)
		if e.Get(key) != nil {
			t.Errorf("%s is still there", key)
		}
	}
}
