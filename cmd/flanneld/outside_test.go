package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	stdlog "log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/grpclog"
	"k8s.io/klog/v2"

	"flanneld/pkg/printable"
	"flanneld/pkg/subnet"
)

// forged would be a line of the log, and clear the screen.
const forged = "\nI1128 10:00:00.000000       1 agent.go:1] \"All is well\"\r\n\x1b[2J\x1b]0;title\x07"

// impostor is a server whose certificate's names hold what belongs into no log, and
// are shown before anybody trusts them. It returns its URL.
func impostor(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "a" + forged, Organization: []string{forged}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"b" + forged, strings.Repeat("c", 10_000)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: []string{"h2"}}
	server.Config.ErrorLog = stdlog.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
}

// followHelper is a daemon without a kernel: it follows the leases for a moment,
// and logs what it meets in each way that there is.
func followHelper() {
	p := newProgram()
	p.serve = func(ctx context.Context, o options) error {
		if err := setUpLog(o); err != nil {
			return err
		}
		r, err := o.Etcd.Open()
		if err != nil {
			return err
		}
		defer r.Close()
		_, err = r.List(ctx)
		klog.ErrorS(err, "Cannot list")
		klog.InfoS("In a struct", "nested", struct{ A []error }{[]error{err}}, "list", []string{err.Error()}, "bytes", []byte(err.Error()))
		klog.Error(err)
		klog.Warningf("%v", err)
		stdlog.Print(err)
		grpclog.Errorln(err)
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_ = subnet.NewManager(r, subnet.Options{}).Run(ctx)
		return err
	}
	os.Exit(p.end(p.run(context.Background(), os.Args[1:])))
}

// TestImpostor has the daemon and the commands meet one.
func TestImpostor(t *testing.T) {
	url := impostor(t)
	check := func(what string, lines []string, least int) {
		t.Helper()
		told := 0
		for _, line := range lines {
			if strings.HasPrefix(line, `I1128 10:00:00`) || strings.ContainsAny(line, "\x1b\r\x07") || len(line) > 33_000 {
				t.Errorf("%s: forged, or too long: %q", what, line)
			}
			if strings.Contains(line, "valid for b") {
				told++
			}
		}
		if told < least {
			t.Errorf("%s: %d lines tell of the certificate:\n%s", what, told, strings.Join(lines, "\n"))
		}
	}
	for _, api := range []string{"2", "3"} {
		for _, flags := range []string{"", "--log-format=json", "--log_backtrace_at=nowhere.go:1"} {
			args := append(strings.Fields(flags), "--etcd-endpoints="+url, "--etcd-api="+api)
			check(fmt.Sprint(args), logged(t, "follow", args...), 6)
		}
		for _, command := range []string{"config get", "config check", "lease list", "status -o json", `config set --yes {"Network":"10.1.0.0/16","Backend":{"Type":"host-gw"}}`, "lease release 172.7.21.0/24"} {
			check(command, logged(t, "as it is", append(strings.Fields(command), "--etcd-endpoints="+url, "--etcd-api="+api)...), 1)
		}
	}
}

// TestPrintedConfig has a config with what no terminal should get.
func TestPrintedConfig(t *testing.T) {
	for toTerminal, want := range map[bool]string{
		false: "{" + forged + "}\n", true: "{\nI1128 10:00:00.000000       1 agent.go:1] \"All is well\"?\n?[2J?]0;title?}\n",
	} {
		var out strings.Builder
		c := &call{program: &program{stdout: &out}, stdout: printable.People(&out)}
		if err := c.printDocument("{"+forged+"}", toTerminal); err != nil || out.String() != want {
			t.Errorf("to a terminal %t: %q, %v", toTerminal, out.String(), err)
		}
	}
}
