package check

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"syscall"
	"time"

	"flanneld/pkg/condition"
	"flanneld/pkg/probe"
)

const memberTime = 3 * time.Second

// clientPort is etcd's for its clients (IANA).
const clientPort = "2379"

// readMembers asks each etcd server for its version, and so for its time. The
// server's certificate is verified beside: it is the clock that may be wrong, and
// nothing is believed or told. The daemon's own error has lost its type on its way here.
func (f *Facts) readMembers(ctx context.Context) {
	e := f.Status.Etcd
	a := asker{tls: &tls.Config{}, unread: f.has(condition.EtcdUnreadable)}
	if pair, err := tls.LoadX509KeyPair(f.asDaemon(e.CertFile), f.asDaemon(e.KeyFile)); err == nil {
		a.tls.Certificates = []tls.Certificate{pair}
	}
	if content, err := f.readFile(e.CAFile); err == nil {
		a.tls.RootCAs = x509.NewCertPool()
		a.tls.RootCAs.AppendCertsFromPEM(content)
	}
	f.Members = make([]Member, len(e.Endpoints))
	var asking sync.WaitGroup
	for i, endpoint := range e.Endpoints {
		asking.Go(func() { f.Members[i] = a.member(ctx, endpoint) })
	}
	asking.Wait()
}

// asker asks etcd's servers as the daemon would.
type asker struct {
	tls    *tls.Config // certificates of client and authorities
	unread bool        // the daemon cannot read etcd: it is worth to find out why
}

func (a asker) member(ctx context.Context, endpoint string) Member {
	m := Member{URL: endpoint}
	u, err := url.Parse(endpoint)
	if err != nil {
		m.Err = err
		return m
	}
	if m.Port = u.Port(); m.Port == "" {
		m.Port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	m.Host = u.Hostname()
	m.From = from(net.JoinHostPort(m.Host, m.Port))
	reply, state, unverified, err := a.get(ctx, endpoint)
	if err == nil {
		if state != nil && len(state.PeerCertificates) > 0 {
			shown := state.PeerCertificates[0]
			m.Certificate = &Certificate{NotBefore: shown.NotBefore, NotAfter: shown.NotAfter}
			m.Names, m.Issuer = names(shown), shown.Issuer.String()
		}
		m.Ahead, err = ahead(reply, endpoint)
	}
	m.Err = err
	if err == nil && unverified != nil {
		m.Trouble = unverifiedTrouble(unverified)
	}
	if a.unread && m.Trouble == "" {
		a.diagnose(ctx, u, &m, reply)
	}
	return m
}

// answered is a reply, and when it came.
type answered struct {
	status int
	date   string
	middle time.Time
}

// get asks for the version. unverified is why the server's certificate does not do.
func (a asker) get(ctx context.Context, endpoint string) (
	reply answered, state *tls.ConnectionState, unverified, err error,
) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return reply, nil, nil, err
	}
	config := a.tls.Clone()
	config.InsecureSkipVerify = true // in favour of what follows
	config.VerifyConnection = func(s tls.ConnectionState) error {
		unverified = verify(s.PeerCertificates, u.Hostname(), config.RootCAs)
		return nil
	}
	dialer := &net.Dialer{Timeout: memberTime} // a transport does not end a dial that the client has given up
	transport := &http.Transport{DialContext: dialer.DialContext, TLSClientConfig: config, DisableKeepAlives: true}
	client := &http.Client{Transport: transport, Timeout: memberTime + time.Second}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint+"/version", nil)
	if err != nil {
		return reply, nil, nil, err
	}
	before := time.Now()
	r, err := client.Do(request)
	if err != nil {
		return reply, nil, unverified, err
	}
	defer r.Body.Close()
	reply = answered{r.StatusCode, r.Header.Get("Date"), before.Add(time.Since(before) / 2)}
	return reply, r.TLS, unverified, nil
}

// verify is what crypto/tls does by itself unless it is told not to.
func verify(chain []*x509.Certificate, host string, roots *x509.CertPool) error {
	options := x509.VerifyOptions{Roots: roots, DNSName: host, Intermediates: x509.NewCertPool()}
	for _, c := range chain[1:] {
		options.Intermediates.AddCert(c)
	}
	_, err := chain[0].Verify(options)
	return err
}

func ahead(reply answered, endpoint string) (time.Duration, error) {
	date, err := http.ParseTime(reply.date)
	if err != nil {
		return 0, fmt.Errorf("%s does not tell the time", endpoint)
	}
	return date.Sub(reply.middle), nil
}

// names are those that a certificate is for.
func names(c *x509.Certificate) (out []string) {
	for _, ip := range c.IPAddresses {
		out = append(out, ip.String())
	}
	return append(out, c.DNSNames...)
}

// diagnose finds out why a member does not answer as it should, by the types of
// errors, and by trying what else there may be.
func (a asker) diagnose(ctx context.Context, u *url.URL, m *Member, reply answered) {
	address := net.JoinHostPort(m.Host, m.Port)
	var lookup *net.DNSError
	var op *net.OpError
	switch {
	case errors.As(m.Err, &lookup):
		m.Trouble = NoAddress
		return
	case errors.Is(m.Err, syscall.ECONNREFUSED):
		m.Trouble = Refused
	case errors.Is(m.Err, syscall.ENETUNREACH):
		m.Trouble = NoRoute
	case errors.As(m.Err, &op) && op.Op == "dial", isTimeout(m.Err) && !connects(ctx, address):
		if m.Trouble = Dead; answersPings(ctx, m.Host) {
			m.Trouble = Filtered
		}
	case u.Scheme == "http" && (m.Err != nil || reply.status == http.StatusBadRequest) && speaksTLS(ctx, address):
		m.Trouble = SpeaksTLS
	case u.Scheme == "https" && errors.As(m.Err, &op) && op.Op == "remote error": // as crypto/tls marks an alert
		m.Trouble = RefusesClient
	case u.Scheme == "https" && m.Err != nil:
		if _, _, _, err := a.get(ctx, "http://"+address); err == nil {
			m.Trouble = SpeaksPlain
		}
	}
	usual := net.JoinHostPort(m.Host, clientPort)
	m.UsualPort = m.Port != clientPort && (m.Trouble == "" || m.Trouble == Refused || m.Trouble == Filtered) &&
		connects(ctx, usual)
}

// from is the address that packets would leave from. No packet is sent.
func from(address string) netip.Addr {
	conn, err := net.Dial("udp", address)
	if err != nil {
		return netip.Addr{}
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

func connects(ctx context.Context, address string) bool {
	conn, err := (&net.Dialer{Timeout: memberTime}).DialContext(ctx, "tcp", address)
	if err == nil {
		conn.Close()
	}
	return err == nil
}

// speaksTLS reports whether a server begins TLS, though it may then want to see a
// certificate.
func speaksTLS(ctx context.Context, address string) bool {
	dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: memberTime}, Config: &tls.Config{InsecureSkipVerify: true}}
	ctx, cancel := context.WithTimeout(ctx, memberTime)
	defer cancel()
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err == nil {
		conn.Close()
		return true
	}
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

func answersPings(ctx context.Context, host string) bool {
	all, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", host)
	if err != nil || len(all) == 0 {
		all, err = net.DefaultResolver.LookupNetIP(ctx, "ip6", host)
	}
	if err != nil || len(all) == 0 {
		return false
	}
	src, dst := netip.IPv4Unspecified(), all[0].Unmap()
	if dst.Is6() {
		src = netip.IPv6Unspecified()
	}
	for range tries {
		a, err := (probe.Host{}).Ping(src, dst, probe.Small, probeTime)
		if err == nil && a.Echo {
			return true
		}
	}
	return false
}
