package daemon

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"k8s.io/klog/v2"

	"flanneld/internal/lab"
	"flanneld/pkg/status"
	"flanneld/pkg/subnet/etcdauto"
	"flanneld/pkg/subnet/subnettest"
)

// memory is a store that is no etcd.
type memory struct{ *subnettest.Client }

func (memory) Member() string       { return "memory" }
func (memory) Dir() string          { return status.DefaultPrefix }
func (memory) Chosen() etcdauto.API { return etcdauto.Auto }

func (memory) Renew(context.Context, string) error { return nil }

// externalInterface adds an interface to the namespace of the tests.
func externalInterface(t *testing.T, name, address string) netlink.Link {
	t.Helper()
	link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name, MTU: 1500}, PeerName: name + "-peer"}
	if err := netlink.LinkAdd(link); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = netlink.LinkDel(link) })
	a, err := netlink.ParseAddr(address)
	if err != nil {
		t.Fatal(err)
	}
	peer, err := netlink.LinkByName(link.PeerName)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{netlink.AddrAdd(link, a), netlink.LinkSetUp(link), netlink.LinkSetUp(peer)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return link
}

// peerRoutes are the gateways to other hosts' subnets by an interface.
func peerRoutes(t *testing.T, link netlink.Link) map[string]string {
	t.Helper()
	routes, err := netlink.RouteList(link, netlink.FAMILY_V4)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, r := range routes {
		if r.Gw != nil {
			found[r.Dst.String()] = r.Gw.String()
		}
	}
	return found
}

// TestRun runs a whole daemon in this process, but for etcd.
func TestRun(t *testing.T) {
	link := externalInterface(t, "ens33", "10.4.7.21/24")
	leases := subnettest.NewStore()
	leases.Set("config", `{"Network":"172.7.0.0/16","Backend":{"Type":"host-gw"}}`, 0)
	leases.Set("subnets/172.7.22.0-24", `{"PublicIP":"10.4.7.22","BackendType":"host-gw"}`, time.Hour)
	leases.Set("subnets/172.7.23.0-24", "none", 0)
	var log bytes.Buffer
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	klog.SetOutputBySeverity("INFO", &log) // which gets the graver lines too
	defer func() { klog.SetOutput(io.Discard); klog.LogToStderr(true) }()
	o := Options{
		Version: "1.2.3", Etcd: Etcd{Prefix: "coreos.com/network"}, // the store has it with a slash
		Ifaces: []string{"ens33"}, SubnetFile: filepath.Join(t.TempDir(), "subnet.env"), LeaseRenewMargin: time.Hour,
		Firewall: FirewallAuto, IPTablesResync: time.Minute,
		HealthzIP: netip.MustParseAddr("127.0.0.1"), HealthzPort: 2401, HealthzPage: true,
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, o, memory{leases.Client()}, nil) }()

	const patience = 20 * time.Second
	lab.Eventually(t, patience, "the daemon to be ready", func() error {
		s, err := status.SocketOf(status.DefaultPrefix).Ask(ctx)
		switch {
		case err != nil:
			return err
		case s.Daemon == nil || !s.Daemon.Ready:
			return fmt.Errorf("its status is %+v", s.Daemon)
		case s.Daemon.Version != "1.2.3" || s.Daemon.PID != os.Getpid() || s.Daemon.SubnetFile != o.SubnetFile:
			t.Fatalf("its status is %+v", s.Daemon)
		}
		return nil
	})
	if got := peerRoutes(t, link); len(got) != 1 || got["172.7.22.0/24"] != "10.4.7.22" {
		t.Errorf("routes to peers: %v", got)
	}
	if _, err := os.Stat(o.SubnetFile); err != nil {
		t.Error(err)
	}
	for _, page := range []string{"healthz", "readyz", "metrics", ""} {
		if code := get(t, "http://127.0.0.1:2401/"+page); code != http.StatusOK {
			t.Errorf("/%s answers %d", page, code)
		}
	}
	if err := run(ctx, o, memory{leases.Client()}, nil); err == nil {
		t.Error("a second daemon runs in the same namespace")
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
	klog.Flush()
	for _, want := range []string{`"Holding a lease" subnet="`, ` key="/coreos.com/network/subnets/172.7.`, "/coreos.com/network/subnets/172.7.23.0-24"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %s", want)
		}
	}
	if strings.Contains(log.String(), `"coreos.com/network/subnets`) {
		t.Errorf("the log names keys that are not there:\n%s", &log)
	}
	if got := peerRoutes(t, link); len(got) != 1 {
		t.Errorf("after its end, routes to peers: %v", got)
	}
}

func get(t *testing.T, url string) (code int) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	_, _ = io.Copy(io.Discard, r.Body)
	return r.StatusCode
}

// TestRunFails has a port that is taken: the daemon ends at once with the reason,
// and the namespace is free.
func TestRunFails(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	at := netip.MustParseAddrPort(taken.Addr().String())
	o := Options{
		Firewall: FirewallAuto, IPTablesResync: time.Minute, LeaseRenewMargin: time.Hour,
		HealthzIP: at.Addr(), HealthzPort: at.Port(),
	}
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	err = run(ctx, o, memory{subnettest.NewStore().Client()}, nil)
	if err == nil || !strings.Contains(err.Error(), at.String()) {
		t.Errorf("it ended with %v", err)
	}
	lock, err := lockNamespace(status.DefaultPrefix)
	if err != nil {
		t.Fatal(err)
	}
	lock.Close()
}
