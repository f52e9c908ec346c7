package main

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
	"time"
	"unicode"

	"flanneld/pkg/daemon"
	"flanneld/pkg/subnet/etcdauto"
)

// The functions below read a flag's value. Their errors go on from the value:
// "must be true or false".

// into makes a flag's set function of a variable and what reads a value.
func into[T any](to *T, read func(string) (T, error)) func(string) error {
	return func(s string) error {
		v, err := read(s)
		if err == nil {
			*to = v
		}
		return err
	}
}

// appendTo is into for a flag that may be repeated. An empty value, which a
// script with an unset variable gives, is as none.
func appendTo[T any](to *[]T, read func(string) (T, error)) func(string) error {
	return func(s string) error {
		if s = strings.TrimSpace(s); s == "" {
			return nil
		}
		v, err := read(s)
		if err == nil {
			*to = append(*to, v)
		}
		return err
	}
}

func ignore[T any](read func(string) (T, error)) func(string) error {
	return into(new(T), read)
}

func etcdAPI(s string) (etcdauto.API, error) {
	switch s {
	case "auto":
		return etcdauto.Auto, nil
	case "2":
		return etcdauto.V2, nil
	case "3":
		return etcdauto.V3, nil
	}
	return 0, errors.New("must be auto, 2 or 3")
}

func firewallKind(s string) (daemon.FirewallMode, error) {
	switch w := daemon.FirewallMode(s); w {
	case daemon.FirewallAuto, daemon.IPTables, daemon.NFTables:
		return w, nil
	}
	return "", errors.New("must be auto, iptables or nftables")
}

func anything(s string) (string, error) { return s, nil }

func hidden(s string) (daemon.Secret, error) { return daemon.Secret(s), nil }

func something(s string) (string, error) {
	if strings.TrimSpace(s) == "" {
		return "", errors.New("must not be empty")
	}
	return s, nil
}

func boolean(s string) (bool, error) {
	b, err := strconv.ParseBool(s)
	if err != nil {
		return false, errors.New("must be true or false")
	}
	return b, nil
}

func number(from, to int) func(string) (int, error) {
	return numberOf("", from, to)
}

// numberOf names what is counted: " of minutes".
func numberOf(things string, from, to int) func(string) (int, error) {
	return func(s string) (int, error) {
		n, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil || n < from || n > to {
			return 0, fmt.Errorf("must be a whole number%s from %d to %d", things, from, to)
		}
		return n, nil
	}
}

func port(s string) (uint16, error) {
	n, err := number(0, math.MaxUint16)(s)
	return uint16(n), err
}

func minutes(from, to int) func(string) (time.Duration, error) {
	return duration(time.Minute, numberOf(" of minutes", from, to))
}

func seconds(from, to int) func(string) (time.Duration, error) {
	return duration(time.Second, numberOf(" of seconds", from, to))
}

func duration(unit time.Duration, read func(string) (int, error)) func(string) (time.Duration, error) {
	return func(s string) (time.Duration, error) {
		n, err := read(s)
		return time.Duration(n) * unit, err
	}
}

func endpoints(s string) ([]string, error) {
	var out []string
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimRight(strings.TrimSpace(part), "/")
		if part == "" {
			continue
		}
		if err := checkEndpoint(part); err != nil {
			return nil, err
		}
		out = append(out, part)
	}
	if len(out) == 0 {
		return nil, errors.New("must name at least one member of the cluster, such as http://10.4.7.12:2379")
	}
	return out, nil
}

func checkEndpoint(s string) error {
	form := errors.New("must be URLs of the form http://host:port or https://host:port, separated by commas")
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || strings.ContainsAny(s, "?# ") {
		return form
	}
	if u.User != nil {
		return errors.New("must not hold a user or password: give them by --etcd-username and FLANNELD_ETCD_PASSWORD")
	}
	if port := u.Port(); port != "" || strings.HasSuffix(u.Host, ":") {
		if _, err := number(1, math.MaxUint16)(port); err != nil {
			return form
		}
	}
	return nil
}

// withoutUser hides what may be a user and password in a list of URLs.
func withoutUser(s string) string {
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		return "***" + s[i:]
	}
	return s
}

func prefix(s string) (string, error) {
	p := path.Clean("/" + strings.TrimSpace(s))
	if p == "/" || strings.ContainsFunc(p, func(r rune) bool { return !unicode.IsGraphic(r) }) {
		return "", errors.New("must be a key such as /coreos.com/network")
	}
	return p, nil
}

func address(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(strings.TrimSpace(s))
	if err != nil {
		return a, errors.New("must be an IP address")
	}
	return a, nil
}

// publicIP takes an address at which another host can be reached (RFC 6890).
func publicIP(s string) (netip.Addr, error) {
	if strings.TrimSpace(s) == "" {
		return netip.Addr{}, nil
	}
	a, err := address(s)
	if err != nil || !a.Is4() || a.As4()[0] == 0 || a.IsLoopback() || a.As4()[0] >= 224 {
		return netip.Addr{}, errors.New("must be the IPv4 address at which other hosts reach this one")
	}
	return a, nil
}

func pattern(s string) (*regexp.Regexp, error) {
	re, err := regexp.Compile(s)
	var wrong *syntax.Error
	switch {
	case err == nil:
		return re, nil
	case errors.As(err, &wrong) && wrong.Expr != s && strings.Contains(s, wrong.Expr):
		return nil, fmt.Errorf("is not a regular expression: %v %q at character %d", wrong.Code, wrong.Expr, strings.Index(s, wrong.Expr)+1)
	case errors.As(err, &wrong):
		return nil, fmt.Errorf("is not a regular expression: %v", wrong.Code)
	}
	return nil, fmt.Errorf("is not a regular expression: %w", err)
}

// modules reads what klog takes for --vmodule.
func modules(s string) (string, error) {
	for part := range strings.SplitSeq(s, ",") {
		file, level, ok := strings.Cut(part, "=")
		if _, err := number(0, math.MaxInt32)(level); part != "" && (!ok || file == "" || err != nil) {
			return "", errors.New("must be pairs of a source file and a level, such as manager=4,route*=5")
		}
	}
	return s, nil
}

// sourceLine reads what klog takes for --log_backtrace_at.
func sourceLine(s string) (string, error) {
	file, line, _ := strings.Cut(s, ":")
	if _, err := number(1, math.MaxInt32)(line); s != "" && (!strings.HasSuffix(file, ".go") || err != nil) {
		return "", errors.New("must be a line of a source file, such as manager.go:120")
	}
	return s, nil
}
