package agent

import (
	"errors"
	"net/netip"
	"testing"

	"flanneld/pkg/backend"
	"flanneld/pkg/kernel"
)

// unreachable is a kernel that does not say how to reach one address.
type unreachable struct {
	Kernel
	ip netip.Addr
}

func (u unreachable) Direct(ips []netip.Addr, _ string) (direct []bool, errs []error) {
	for _, ip := range ips {
		var err error
		if ip == u.ip {
			err = errors.New("no answer")
		}
		direct, errs = append(direct, err == nil), append(errs, err)
	}
	return direct, errs
}

// TestOneFailureIsNotForgotten: what the kernel says of one peer is no answer
// for another, whose working route must stay.
func TestOneFailureIsNotForgotten(t *testing.T) {
	first, second := netip.MustParseAddr("10.4.7.22"), netip.MustParseAddr("10.4.7.23")
	var c onLinkCache
	c.startPass(1, kernel.Link{Name: "ens33", Index: 2})
	k := unreachable{ip: first}
	var is backend.Answer
	c.desired(k, func(onLink func(netip.Addr) backend.Answer) desired {
		onLink(first)
		is = onLink(second)
		return desired{}
	})
	if is != backend.Yes || c.err == nil {
		t.Errorf("the second is on the link: %v; the first one's failure: %v", is, c.err)
	}
}
