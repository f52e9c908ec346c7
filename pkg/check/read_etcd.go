package check

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"
)

// readCertificates reads those that the daemon uses.
func (f *Facts) readCertificates() {
	for _, file := range []string{f.Status.Etcd.CertFile, f.Status.Etcd.CAFile} {
		if file != "" {
			f.Certificates = append(f.Certificates, certificate(file))
		}
	}
}

// certificate is that one of a PEM file which ends first.
func certificate(file string) Certificate {
	out := Certificate{File: file}
	content, err := os.ReadFile(file)
	if err != nil {
		out.Err = err
		return out
	}
	for {
		var block *pem.Block
		if block, content = pem.Decode(content); block == nil {
			break
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil &&
			(out.NotAfter.IsZero() || c.NotAfter.Before(out.NotAfter)) {
			out.NotBefore, out.NotAfter = c.NotBefore, c.NotAfter
		}
	}
	if out.NotAfter.IsZero() {
		out.Err = fmt.Errorf("%s holds no certificate in PEM", file)
	}
	return out
}

const memberTime = 3 * time.Second

// readMembers asks each etcd server for its version, and so for its time. The
// server's certificate is not verified: it is the clock that may be wrong, and
// nothing is believed or told.
func (f *Facts) readMembers(ctx context.Context) {
	e := f.Status.Etcd
	config := &tls.Config{InsecureSkipVerify: true}
	if pair, err := tls.LoadX509KeyPair(e.CertFile, e.KeyFile); err == nil {
		config.Certificates = []tls.Certificate{pair}
	}
	transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
	client := &http.Client{Transport: transport, Timeout: memberTime}
	f.Members = make([]Member, len(e.Endpoints))
	var asking sync.WaitGroup
	for i, url := range e.Endpoints {
		asking.Go(func() { f.Members[i] = member(ctx, client, url) })
	}
	asking.Wait()
}

func member(ctx context.Context, client *http.Client, url string) Member {
	m := Member{URL: url}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/version", nil)
	if err != nil {
		m.Err = err
		return m
	}
	before := time.Now()
	reply, err := client.Do(request)
	if err != nil {
		m.Err = err
		return m
	}
	defer reply.Body.Close()
	if t := reply.TLS; t != nil && len(t.PeerCertificates) > 0 {
		m.Certificate = &Certificate{NotBefore: t.PeerCertificates[0].NotBefore, NotAfter: t.PeerCertificates[0].NotAfter}
	}
	date, err := http.ParseTime(reply.Header.Get("Date"))
	if err != nil {
		m.Err = fmt.Errorf("%s does not tell the time", url)
		return m
	}
	middle := before.Add(time.Since(before) / 2)
	m.Ahead = date.Sub(middle)
	return m
}
