package cli

import (
	"errors"
	"math"
	"net/url"
	"path"
	"strings"
	"unicode"
)

// Endpoints takes URLs of etcd's members, without what does not matter.
func Endpoints(s string) ([]string, error) {
	var out []string
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimRight(strings.TrimSpace(part), "/")
		if part == "" {
			continue
		}
		if err := checkEndpoint(part); err != nil {
			return nil, err
		}
		scheme, rest, _ := strings.Cut(part, "://") // of whatever case (RFC 3986, 3.1)
		out = append(out, strings.ToLower(scheme)+"://"+rest)
	}
	if len(out) == 0 {
		return nil, errors.New("must name at least one member of the cluster, such as http://10.4.7.12:2379")
	}
	return out, nil
}

func checkEndpoint(s string) error {
	form := errors.New("must be URLs of the form http://host:port or https://host:port, separated by commas")
	_, host, _ := strings.Cut(s, "://")
	if strings.Count(host, ":") > 1 && !strings.ContainsAny(host, "[]@/") {
		return errors.New("must have IPv6 addresses in brackets, such as http://[fd00:4::12]:2379")
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || strings.ContainsAny(s, "?# ") {
		return form
	}
	if u.User != nil {
		return errors.New("must not hold a user or password: give them by --etcd-username and FLANNELD_ETCD_PASSWORD")
	}
	if port := u.Port(); port != "" || strings.HasSuffix(u.Host, ":") {
		if _, err := Number(1, math.MaxUint16)(port); err != nil {
			return form
		}
	}
	return nil
}

// WithoutUser hides what may be a user and password in a list of URLs.
func WithoutUser(s string) string {
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		return "***" + s[i:]
	}
	return s
}

// Key takes one of etcd's keys, as flannel does: slashes too many are right, and whether
// there is one in front is kept, as to etcd's v3 API that may be another key.
func Key(s string) (string, error) {
	s = strings.TrimSpace(s)
	p := path.Clean("/" + s)
	if p == "/" || strings.ContainsFunc(p, func(r rune) bool { return !unicode.IsGraphic(r) }) {
		return "", errors.New("must be a key such as /coreos.com/network")
	}
	if !strings.HasPrefix(s, "/") {
		p = p[1:]
	}
	return p, nil
}
