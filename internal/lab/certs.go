package lab

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// CA is a certificate authority whose files lie in a folder of the test.
type CA struct {
	File string // its certificate, PEM

	t    TB
	dir  string
	cert *x509.Certificate
	key  crypto.Signer
}

// Cert is a certificate and its key, as PEM files.
type Cert struct {
	CertFile, KeyFile string
}

// NewCA makes an authority called name.
func NewCA(t TB, name string) *CA {
	t.Helper()
	ca := &CA{t: t, dir: t.TempDir()}
	template := validFor(name, 24*time.Hour)
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign
	files, cert, key := ca.sign(template, name)
	ca.File, ca.cert, ca.key = files.CertFile, cert, key
	return ca
}

// Server issues a certificate for a server at these addresses. Where life is
// negative it has expired already.
func (ca *CA) Server(name string, life time.Duration, ips ...string) Cert {
	ca.t.Helper()
	template := validFor(name, life)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	for _, ip := range ips {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(ip))
	}
	files, _, _ := ca.sign(template, name)
	return files
}

// Client issues a certificate for a client.
func (ca *CA) Client(name string, life time.Duration) Cert {
	ca.t.Helper()
	template := validFor(name, life)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	files, _, _ := ca.sign(template, name)
	return files
}

func validFor(name string, life time.Duration) *x509.Certificate {
	return &x509.Certificate{
		Subject:   pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-48 * time.Hour),
		NotAfter:  time.Now().Add(life),
		KeyUsage:  x509.KeyUsageDigitalSignature,
	}
}

// sign makes a key and a certificate, the authority's own where it has none yet.
func (ca *CA) sign(template *x509.Certificate, name string) (Cert, *x509.Certificate, crypto.Signer) {
	ca.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ca.must(err)
	parent, signer := ca.cert, ca.key
	if parent == nil {
		parent, signer = template, key
	}
	template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62))
	ca.must(err)
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	ca.must(err)
	cert, err := x509.ParseCertificate(der)
	ca.must(err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	ca.must(err)
	files := Cert{filepath.Join(ca.dir, name+".pem"), filepath.Join(ca.dir, name+"-key.pem")}
	ca.must(os.WriteFile(files.CertFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644))
	ca.must(os.WriteFile(files.KeyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
	return files, cert, key
}

func (ca *CA) must(err error) {
	ca.t.Helper()
	if err != nil {
		ca.t.Fatalf("lab: issue a certificate: %v", err)
	}
}
