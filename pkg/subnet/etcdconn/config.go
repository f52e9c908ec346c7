// Package etcdconn is what the clients of etcd's two APIs have in common: where
// the members are, how a connection to them is made and when it is given up, and
// what went wrong in words for an operator.
package etcdconn

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"
	"time"

	"flanneld/pkg/subnet"
)

// Config says where the keys are and how to get at them.
type Config struct {
	// Endpoints are members' URLs, without user or password:
	// "https://10.4.7.12:2379". They are asked without any proxy.
	Endpoints []string
	Prefix    string // the directory of all keys: "/coreos.com/network"

	// PEM files for https. They are read at each new connection, so that
	// replaced ones come into effect.
	KeyFile, CertFile string // empty: no client certificate
	CAFile            string // empty: the system's authorities

	Username, Password string // empty: none

	// Addresses is told where connections go. Nil: nobody wants to know.
	Addresses *Addresses
}

// Files are the TLS files.
func (c Config) Files() Files {
	return Files{Cert: c.CertFile, Key: c.KeyFile, CA: c.CAFile, addresses: c.Addresses}
}

// Dir is the prefix in the one form that keys begin with: a slash in front,
// none at the end.
func (c Config) Dir() string { return strings.TrimSuffix(path.Clean("/"+c.Prefix), "/") }

// Check says what is wrong with the endpoints, or with TLS files that they need.
func (c Config) Check() error {
	if len(c.Endpoints) == 0 {
		return errors.New("use the etcd endpoints: there are none")
	}
	for i, endpoint := range c.Endpoints {
		u, err := url.Parse(endpoint)
		if err != nil || u.User != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			// Unquoted, as it may hold a password.
			return fmt.Errorf("etcd endpoint %d of %d is not of the form https://10.4.7.12:2379", i+1, len(c.Endpoints))
		}
		if u.Scheme == "https" {
			if _, err := c.Files().config(u.Hostname()); err != nil {
				return err
			}
		}
	}
	return nil
}

// LeaseDir is the absolute directory of the leases below a prefix.
func LeaseDir(prefix string) string { return prefix + "/" + subnet.LeaseDir }

// Key is the part of an absolute key below the prefix, if the key lies directly
// in it or among the leases: nothing else is an entry.
func Key(prefix, absolute string) (string, bool) {
	key, ok := strings.CutPrefix(absolute, prefix+"/")
	dir := path.Dir(key)
	return key, ok && key != "" && !strings.HasSuffix(key, "/") && (dir == "." || dir == subnet.LeaseDir)
}

// WholeSeconds rounds up: etcd knows no less, and a lifetime of none would end
// the key at once.
func WholeSeconds(d time.Duration) time.Duration {
	return (d + time.Second - 1).Truncate(time.Second)
}
