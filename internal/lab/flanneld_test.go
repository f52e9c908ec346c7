package lab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// echo is a program in flanneld's place that prints its flags, one a line.
func echo(t *testing.T) func(*FlanneldOptions) {
	path := filepath.Join(t.TempDir(), "echo.sh")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nprintf '%s\\n' \"$@\"\npwd\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return func(o *FlanneldOptions) {
		o.Binary = path
		o.Args = append(o.Args, "--healthz-port=2401")
	}
}

func TestFlanneldGetsTheTutorialsFlags(t *testing.T) {
	t.Parallel()
	l := New(t)
	l.Host("hdss7-12", "10.4.7.12/24")
	h21 := l.Host("hdss7-21", "10.4.7.21/24")
	d := h21.FlanneldAs(echo(t))
	d.Wait(waitTimeout)
	want := strings.Join([]string{
		"--public-ip=10.4.7.21",
		"--etcd-endpoints=http://10.4.7.12:2379",
		"--iface=ens33",
		"--subnet-file=" + h21.SubnetFile(),
		"--healthz-port=2401",
		h21.Dir(),
	}, "\n") + "\n"
	if d.Log() != want {
		t.Errorf("flags:\n%swant:\n%s", d.Log(), want)
	}
	const typed = "flanneld --public-ip=10.4.7.21 --etcd-endpoints=http://10.4.7.12:2379 --iface=ens33 --subnet-file=./subnet.env --healthz-port=2401"
	if d.CommandLine() != typed {
		t.Errorf("command line %q", d.CommandLine())
	}
}

func TestFlanneldGetsTheCertificatesOfACluster(t *testing.T) {
	t.Parallel()
	l := New(t)
	h12, h21, h22 := l.Host("hdss7-12", "10.4.7.12/24"), l.Host("hdss7-21", "10.4.7.21/24"), l.Host("hdss7-22", "10.4.7.22/24")
	e := l.EtcdOn(EtcdOptions{TLS: NewCA(t, "ca")}, h12, h21, h22)
	if l.Etcd() != e {
		t.Error("Etcd is another one than EtcdOn")
	}
	d := h21.FlanneldAs(echo(t))
	d.Wait(waitTimeout)
	for _, want := range []string{
		"--etcd-endpoints=https://10.4.7.12:2379,https://10.4.7.21:2379,https://10.4.7.22:2379\n",
		"--etcd-keyfile=/", "--etcd-certfile=/", "--etcd-cafile=/",
	} {
		if !strings.Contains(d.Log(), want) {
			t.Errorf("the flags lack %q:\n%s", want, d.Log())
		}
	}
}

// complaint runs a test that must fail, and returns what it says.
func failureOf(t *testing.T, test func(l *Lab)) string {
	t.Helper()
	f := &fakeTest{t: t}
	f.run(func() { test(New(f)) })
	if !f.failed {
		t.Error("the test within has passed")
	}
	return f.log.String()
}

func TestWhatCannotBeDoneEndsTheTest(t *testing.T) {
	for want, test := range map[string]func(*Lab){
		"etcd needs a host":                                   func(l *Lab) { l.Etcd() },
		"a gets no answer from 10.4.7.99 (10.4.7.99)":         func(l *Lab) { l.Host("a", "10.4.7.21/24").Ping(Address("10.4.7.99")) },
		"a has not reached 10.4.7.99 (10.4.7.99) within 50ms": func(l *Lab) { l.Host("a", "10.4.7.21/24").Reach(Address("10.4.7.99"), 50*time.Millisecond) },
		"read an address of a":                                func(l *Lab) { l.Host("a", "10.4.7.21") },
		"a# false: exit status 1":                             func(l *Lab) { l.Host("a", "10.4.7.21/24").Run("false") },
		"ended before it was ready, with exit code 7":         func(l *Lab) { script(l.Host("a", "10.4.7.21/24"), "exit 7").WaitReady() },
		"still runs after 10ms":                               func(l *Lab) { script(l.Host("a", "10.4.7.21/24"), "sleep 600").Wait(10 * time.Millisecond) },
		"start /no/such/program on a":                         func(l *Lab) { l.Host("a", "10.4.7.21/24").Start(FlanneldOptions{Binary: "/no/such/program"}) },
		"ended with exit code 143":                            func(l *Lab) { script(l.Host("a", "10.4.7.21/24"), "sleep 600").Stop() },
	} {
		if got := failureOf(t, test); !strings.Contains(got, want) {
			t.Errorf("want %q in:\n%s", want, got)
		}
	}
}

func TestEventuallySaysWhatItWaitedFor(t *testing.T) {
	got := failureOf(t, func(l *Lab) {
		Eventually(l.t, 20*time.Millisecond, "a miracle", func() error { return os.ErrNotExist })
	})
	if !strings.Contains(got, "waited 20ms for a miracle: file does not exist") {
		t.Errorf("it says:\n%s", got)
	}
	tries := 0
	Eventually(t, waitTimeout, "the third try", func() error {
		if tries++; tries < 3 {
			return os.ErrNotExist
		}
		return nil
	})
}
