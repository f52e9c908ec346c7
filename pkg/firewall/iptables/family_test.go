package iptables

import (
	"testing"

	"flanneld/pkg/firewall/firewalltest"
	"flanneld/pkg/inet"
)

// eachFamily runs a test for both families. What it says of IPv4 is translated: the rules
// are the same, and so must be what becomes of them.
func eachFamily(t *testing.T, test func(t *testing.T, f inet.Family)) {
	for _, f := range inet.Families() {
		t.Run(f.String(), func(t *testing.T) { test(t, f) })
	}
}

// as are rules of IPv4 as they are in a family.
func as(f inet.Family, specs []string) (out []string) {
	for _, s := range specs {
		out = append(out, firewalltest.In(f, s))
	}
	return out
}

// over is a Writer for a family over a fake.
func over(f inet.Family, p program) *Writer { return &Writer{family: f, program: p, randomFully: true} }
