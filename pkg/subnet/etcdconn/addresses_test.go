package etcdconn_test

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"flanneld/pkg/subnet/etcdconn"
)

func addrs(texts ...string) (out []netip.Addr) {
	for _, s := range texts {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// TestAddresses has an endpoint with an address, and one with a name that shows
// what it stands for once it is dialled, though nobody listens.
func TestAddresses(t *testing.T) {
	a := etcdconn.NewAddresses([]string{"http://10.4.8.12:2379", "https://localhost:1", "http://[::ffff:10.4.8.13]"})
	if got, want := a.All(), addrs("10.4.8.12", "10.4.8.13"); !slices.Equal(got, want) || !a.Named() {
		t.Errorf("to begin with: %v, named: %t; want %v", got, a.Named(), want)
	}
	if etcdconn.NewAddresses([]string{"http://10.4.8.12:2379"}).Named() {
		t.Error("an address is a name")
	}
	<-a.Changed()
	dialer := etcdconn.Config{Addresses: a}.Files().Dialer(time.Second, time.Second)
	if conn, err := dialer.DialContext(t.Context(), "tcp4", "localhost:1"); err == nil {
		conn.Close()
	}
	if got, want := a.All(), addrs("10.4.8.12", "10.4.8.13", "127.0.0.1"); !slices.Equal(got, want) {
		t.Errorf("after a connection was tried: %v, want %v", got, want)
	}
	select {
	case <-a.Changed():
	default:
		t.Error("nobody hears of it")
	}
	for i := range 100 { // a name that stands for another address each time
		if conn, err := dialer.DialContext(t.Context(), "tcp4", fmt.Sprintf("127.0.1.%d:1", i)); err == nil {
			conn.Close()
		}
	}
	if got := a.All(); len(got) != 32 || got[31] != netip.MustParseAddr("127.0.1.99") {
		t.Errorf("%d addresses, the last %v", len(got), got[len(got)-1])
	}
	var nobody net.Dialer = *etcdconn.Files{}.Dialer(time.Second, time.Second)
	if nobody.Control == nil {
		t.Error("without a time-out")
	}
}
