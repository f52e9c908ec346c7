package etcdconn

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"
)

// Files are the paths of PEM files, empty where there is none.
type Files struct {
	Cert, Key string
	CA        string

	addresses *Addresses // nil: nobody wants to know where connections go
}

// config reads the files. Its errors say which of them is at fault, and why.
func (f Files) config(server string) (*tls.Config, error) {
	config := &tls.Config{ServerName: server, MinVersion: tls.VersionTLS12}
	if f.CA != "" {
		ca, err := readPEM("the CA file of etcd", f.CA)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(ca) {
			return nil, fmt.Errorf("the CA file of etcd, %s, holds no certificate that can be read", f.CA)
		}
	}
	if f.Cert != "" || f.Key != "" {
		pair, err := f.pair()
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

func (f Files) pair() (tls.Certificate, error) {
	cert, err := readPEM("the client certificate for etcd", f.Cert)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := readPEM("the client key for etcd", f.Key)
	if err != nil {
		return tls.Certificate{}, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("the client certificate for etcd, %s, with its key, %s, cannot be used: %s",
			f.Cert, f.Key, strings.TrimPrefix(err.Error(), "tls: "))
	}
	return pair, nil
}

func readPEM(what, path string) ([]byte, error) {
	content, err := ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	if block, _ := pem.Decode(content); block == nil {
		return nil, fmt.Errorf("%s, %s, is not a PEM file", what, path)
	}
	return content, nil
}

// Dial makes a TLS connection with the files as they are now. Protocols are
// those to agree on (ALPN), if any.
func (f Files) Dial(
	ctx context.Context, dialer *net.Dialer, network, addr string, protocols ...string,
) (net.Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	config, err := f.config(host)
	if err != nil {
		return nil, err
	}
	config.NextProtos = protocols
	plain, err := f.Connect(ctx, dialer, network, addr)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(plain, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		plain.Close()
		return nil, err
	}
	return &alertConn{Conn: conn}, nil
}

// alertConn is a connection that says why it ended. In TLS 1.3 the server judges a
// client's certificate after the handshake: the reader learns that it is
// refused, and closes the connection, when the writer may just write.
type alertConn struct {
	*tls.Conn
	refused atomic.Pointer[net.OpError]
}

func (c *alertConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == remoteError {
		c.refused.Store(op)
	}
	return n, err
}

func (c *alertConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if refused := c.refused.Load(); err != nil && refused != nil {
		return n, refused
	}
	return n, err
}

// remoteError is how crypto/tls marks what the other end has sent as an alert.
const remoteError = "remote error"

// NoProtocol tells whether the other end wants to speak none of the protocols
// that were offered (RFC 7301, 3.2).
func NoProtocol(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == remoteError && op.Err.Error() == tls.AlertError(120).Error()
}

// ErrProtocol says that the other end has answered, by another protocol.
var ErrProtocol = errors.New("it does not speak the protocol that was asked for")

// Explain says what a connection's error is about, where that is a file.
func (f Files) Explain(err error) error {
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var op *net.OpError
	switch {
	case NoProtocol(err):
		return fmt.Errorf("%w (%v)", ErrProtocol, err)
	case errors.As(err, &unknown) && f.CA == "":
		return fmt.Errorf("no authority that this system knows has signed its certificate; "+
			"name the cluster's by --etcd-cafile (%w)", err)
	case errors.As(err, &unknown):
		return fmt.Errorf("none of the authorities in the CA file %s has signed its certificate (%w)", f.CA, err)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Errorf("its own certificate has expired, or a clock is wrong: %s", invalid.Detail)
	case errors.As(err, &op) && op.Op == remoteError && f.Cert == "":
		return fmt.Errorf("it demands a client certificate; name it by --etcd-certfile and --etcd-keyfile (%v)", op.Err)
	case errors.As(err, &op) && op.Op == remoteError:
		return fmt.Errorf("it refuses the client certificate %s (%v)%s", f.Cert, op.Err, f.expired())
	case errors.As(err, &op) && op.Op == "dial":
		return op.Err // the rest repeats the endpoint
	case errors.Is(err, io.EOF):
		return errors.New("it closes the connection without an answer; is it http:// or https://?")
	}
	return err
}

// expired completes a sentence where the client certificate has expired.
func (f Files) expired() string {
	pair, err := f.pair()
	if err != nil || time.Now().Before(pair.Leaf.NotAfter) {
		return ""
	}
	return ": it expired on " + pair.Leaf.NotAfter.Format(time.DateTime)
}
