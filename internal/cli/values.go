package cli

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"time"

	"flanneld/pkg/inet"
)

// The functions below read a flag's value. Their errors go on from the value:
// "must be true or false".

// Into makes a flag's Set of a variable and what reads a value.
func Into[T any](to *T, read func(string) (T, error)) func(string) error {
	return func(s string) error {
		v, err := read(s)
		if err == nil {
			*to = v
		}
		return err
	}
}

// AppendTo is Into for a flag that may be repeated. An empty value, which a
// script with an unset variable gives, is as none.
func AppendTo[T any](to *[]T, read func(string) (T, error)) func(string) error {
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

// Ignore makes a flag's Set that checks the value and does nothing with it.
func Ignore[T any](read func(string) (T, error)) func(string) error {
	return Into(new(T), read)
}

// Text takes anything.
func Text(s string) (string, error) { return s, nil }

// NotEmpty takes anything but white space alone.
func NotEmpty(s string) (string, error) {
	if strings.TrimSpace(s) == "" {
		return "", errors.New("must not be empty")
	}
	return s, nil
}

// Bool takes what [strconv.ParseBool] does.
func Bool(s string) (bool, error) {
	b, err := strconv.ParseBool(s)
	if err != nil {
		return false, errors.New("must be true or false")
	}
	return b, nil
}

func isBool(s string) bool {
	_, err := Bool(s)
	return err == nil
}

// OneOf takes one of some words, such as "auto|2|3", which mean these values.
func OneOf[T any](words string, values ...T) func(string) (T, error) {
	all := strings.Split(words, "|")
	return func(s string) (T, error) {
		for i, word := range all {
			if s == word {
				return values[i], nil
			}
		}
		choice, last := strings.Join(all[:len(all)-1], ", "), all[len(all)-1]
		if choice != "" {
			last = choice + " or " + last
		}
		return *new(T), errors.New("must be " + last)
	}
}

// Number takes a whole number in a range.
func Number(from, to int) func(string) (int, error) { return numberOf("", from, to) }

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

// Port takes a TCP or UDP port, and 0.
func Port(s string) (uint16, error) {
	n, err := Number(0, math.MaxUint16)(s)
	return uint16(n), err
}

// Minutes takes their number.
func Minutes(from, to int) func(string) (time.Duration, error) {
	return duration(time.Minute, numberOf(" of minutes", from, to))
}

// Seconds takes their number.
func Seconds(from, to int) func(string) (time.Duration, error) {
	return duration(time.Second, numberOf(" of seconds", from, to))
}

func duration(unit time.Duration, read func(string) (int, error)) func(string) (time.Duration, error) {
	return func(s string) (time.Duration, error) {
		n, err := read(s)
		return time.Duration(n) * unit, err
	}
}

// Address takes an IP address.
func Address(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(strings.TrimSpace(s))
	if err != nil {
		return a, errors.New("must be an IP address")
	}
	return a, nil
}

// Host takes the address of another host, of either family.
func Host(s string) (netip.Addr, error) {
	a, err := Address(s)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, errors.New("must be an IP address")
	}
	return a.Unmap(), nil
}

// PublicIP takes an address of a family at which another host can be reached (RFC 6890).
func PublicIP(f inet.Family) func(string) (netip.Addr, error) {
	return func(s string) (netip.Addr, error) {
		if strings.TrimSpace(s) == "" {
			return netip.Addr{}, nil
		}
		a, err := Address(s)
		if err != nil || inet.Of(a) != f || a.Zone() != "" ||
			slices.ContainsFunc(nobodys, func(p netip.Prefix) bool { return p.Contains(a) }) {
			return netip.Addr{}, fmt.Errorf("must be the %v address at which other hosts reach this one", f)
		}
		return a, nil
	}
}

// nobodys are where no other host can be (RFC 6890, RFC 4291).
var nobodys = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("224.0.0.0/3"),
	netip.MustParsePrefix("::/8"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("ff00::/8"),
}

// Pattern takes a regular expression.
func Pattern(s string) (*regexp.Regexp, error) {
	re, err := regexp.Compile(s)
	var wrong *syntax.Error
	switch {
	case err == nil:
		return re, nil
	case errors.As(err, &wrong) && wrong.Expr != s && strings.Contains(s, wrong.Expr):
		return nil, fmt.Errorf("is not a regular expression: %v %q at character %d",
			wrong.Code, wrong.Expr, strings.Index(s, wrong.Expr)+1)
	case errors.As(err, &wrong):
		return nil, fmt.Errorf("is not a regular expression: %v", wrong.Code)
	}
	return nil, fmt.Errorf("is not a regular expression: %w", err)
}

// LogModules reads what klog takes for --vmodule.
func LogModules(s string) (string, error) {
	for part := range strings.SplitSeq(s, ",") {
		file, level, ok := strings.Cut(part, "=")
		if _, err := Number(0, math.MaxInt32)(level); part != "" && (!ok || file == "" || err != nil) {
			return "", errors.New("must be pairs of a source file and a level, such as manager=4,route*=5")
		}
	}
	return s, nil
}

// sourceLine reads what klog takes for --log_backtrace_at.
func SourceLine(s string) (string, error) {
	file, line, _ := strings.Cut(s, ":")
	if _, err := Number(1, math.MaxInt32)(line); s != "" && (!strings.HasSuffix(file, ".go") || err != nil) {
		return "", errors.New("must be a line of a source file, such as manager.go:120")
	}
	return s, nil
}
