// Package etcdconn is what the clients of etcd's two APIs have in common: where
// the members are, how a connection to them is made and when it is given up, and
// what went wrong in words for an operator.
package etcdconn

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"flanneld/pkg/subnet"
)

// Config says where the keys are and how to get at them.
type Config struct {
	// Endpoints are members' URLs, without user or password:
	// "https://10.4.7.12:2379". They are asked without any proxy.
	Endpoints []string
	Prefix    string // the directory of all keys as the operator writes it: "/coreos.com/network", "coreos.com/network"

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

// Dir is the prefix as all keys of the v2 API begin: a slash in front, none at the end.
func (c Config) Dir() string { return strings.TrimSuffix(path.Clean("/"+c.Prefix), "/") }

// Spellings are the two directories that the prefix may mean by the v3 API, to which a
// slash in front is a character like any other: first the one that is written. Both
// are "" where the prefix names none.
func (c Config) Spellings() [2]string {
	slashed := c.Dir()
	bare := strings.TrimPrefix(slashed, "/")
	if strings.HasPrefix(c.Prefix, "/") {
		return [2]string{slashed, bare}
	}
	return [2]string{bare, slashed}
}

// Check says what is wrong with the endpoints, or with TLS files: also with those that
// no endpoint needs, as flannel does.
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
	}
	_, err := c.Files().config("")
	if err != nil && !Secure(c.Endpoints) {
		err = fmt.Errorf("%w; no endpoint of etcd is https: leave its TLS files out if etcd does not speak TLS", err)
	}
	return err
}

// Secure tells whether any endpoint is asked by TLS.
func Secure(endpoints []string) bool {
	return slices.ContainsFunc(endpoints, func(e string) bool { return strings.HasPrefix(e, "https:") })
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

// defaultPorts are those of URLs that name none (RFC 9110, 4.2).
var defaultPorts = []struct{ scheme, port string }{{"http", "80"}, {"https", "443"}}

// clientPort is etcd's own for its clients (IANA).
const clientPort = "2379"

func withoutPort(endpoint string) bool {
	u, err := url.Parse(endpoint)
	return err == nil && u.Port() == ""
}

// AdviseOnPorts completes the error of a request that no endpoint has answered as etcd
// does: where one names no port, that is the likely reason. answered is an endpoint that
// has worked before; "": none has.
func AdviseOnPorts(endpoints []string, answered string) (advice string) {
	for _, d := range defaultPorts {
		var all []string
		for _, e := range endpoints {
			if strings.HasPrefix(e, d.scheme+":") && withoutPort(e) && e != answered && !slices.Contains(all, e) {
				all = append(all, e)
			}
		}
		if len(all) > 0 {
			verb := map[bool]string{true: "names", false: "name"}[len(all) == 1]
			advice += fmt.Sprintf("; %s %s no port, so %s was tried: etcd's is %s",
				strings.Join(all, ", "), verb, d.port, clientPort)
		}
	}
	return advice
}
