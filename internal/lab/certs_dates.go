package lab

import (
	"crypto/x509"
	"net"
	"time"
)

// Between issues a certificate for a client, or for a server at these addresses,
// with the dates on it.
func (ca *CA) Between(name string, from, to time.Time, ips ...string) Cert {
	ca.t.Helper()
	template := validFor(name, 0)
	template.NotBefore, template.NotAfter = from, to
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	for _, ip := range ips {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(ip))
	}
	files, _, _ := ca.sign(template, name)
	return files
}
