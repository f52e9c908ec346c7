package metrics

import (
	"context"
	"errors"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"flanneld/pkg/condition"
	"flanneld/pkg/kernel"
	"flanneld/pkg/recent"
	"flanneld/pkg/status"
	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/subnettest"
)

var epoch = time.Unix(1_700_000_000, 0)

func working() status.Status {
	subnet := netip.MustParsePrefix("172.7.21.0/24")
	return status.Status{
		Daemon:  &status.Daemon{Ready: true, Applied: epoch.Add(1500 * time.Millisecond)},
		Network: &status.Network{Network: netip.MustParsePrefix("172.7.0.0/16"), Backend: "vxlan"},
		Lease:   &status.Lease{Subnet: subnet, Expires: epoch, MTU: 1450},
		Time:    epoch,
		Etcd:    status.Etcd{Current: true, Read: epoch.Add(-4 * time.Second)},
		Peers: []status.Peer{
			{Mode: status.Tunnel, Kernel: status.InPlace}, {Mode: status.Tunnel, Kernel: "no route"}, {Mode: status.Direct, Kernel: status.InPlace}, {Mode: status.NoWay},
		},
		Conditions: condition.List{{Code: condition.EtcdUnreadable}, {Code: condition.EtcdNotCurrent}, {Code: condition.LeaseIgnored}, {Code: condition.LeaseIgnored}},
	}
}

// scrape is an answer's lines without comments, with a newline around each.
func scrape(t *testing.T, c *Counts, ask func(context.Context) (status.Status, error)) string {
	t.Helper()
	w := httptest.NewRecorder()
	c.Handler("1.2.3", ask).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
	if w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Fatalf("%d %v: %s", w.Code, w.Header(), w.Body)
	}
	problems, err := promlint.New(strings.NewReader(w.Body.String())).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("against Prometheus' conventions: %v, %v", problems, err)
	}
	lines := "\n"
	for line := range strings.Lines(w.Body.String()) {
		if !strings.HasPrefix(line, "#") {
			lines += line
		}
	}
	return lines
}

func expect(t *testing.T, lines string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(lines, "\nflanneld_"+w+"\n") {
			t.Errorf("no line %q in%s", w, lines)
		}
	}
}

func TestState(t *testing.T) {
	var c Counts
	ask := func(context.Context) (status.Status, error) { return working(), nil }
	lines := scrape(t, &c, ask)
	expect(t, lines, "ready 1", "problems 3", `condition{code="LeaseIgnored",severity="warning"} 2`, `condition{code="NoLease",severity="error"} 0`, "etcd_current 1", "etcd_last_read_age_seconds 4", "kernel_last_success_timestamp_seconds 1.7000000015e+09",
		`backend_info{backend="vxlan",network="172.7.0.0/16"} 1`, "mtu_bytes 1450", "lease_expiry_timestamp_seconds 1.7e+09",
		`peers{mode="direct"} 1`, `peers{mode="tunnel"} 2`, `peers{mode="none"} 1`, "peers_wrong 2", "kernel_apply_success 0",
		`repairs_total{kind="route"} 0`, `repairs_total{kind="iptables"} 0`, "etcd_watch_restarts_total 0", "kernel_apply_duration_seconds_count 0")
	if !strings.Contains(lines, `flanneld_build_info{goversion="go1.`) || !strings.Contains(lines, `,version="1.2.3"} 1`) {
		t.Error(lines)
	}

	reserved := working()
	reserved.Lease.Expires, reserved.Daemon.Ready, reserved.Etcd.Current = time.Time{}, false, false
	lines = scrape(t, &c, func(context.Context) (status.Status, error) { return reserved, nil })
	expect(t, lines, "ready 0", "etcd_current 0", "mtu_bytes 1450")
	if strings.Contains(lines, "lease_expiry") {
		t.Errorf("a reservation has an expiry:%s", lines)
	}

	// A daemon that cannot say tells its counters, and nothing that is not so.
	lines = scrape(t, &c, func(context.Context) (status.Status, error) { return working(), errors.New("busy") })
	expect(t, lines, "etcd_watch_restarts_total 0")
	for _, unknown := range []string{"ready", "peers", "etcd_current", "problems"} {
		if strings.Contains(lines, "flanneld_"+unknown) {
			t.Errorf("%s is told:%s", unknown, lines)
		}
	}
}

// TestBothFamilies: a host that is reached by both is counted once by each.
func TestBothFamilies(t *testing.T) {
	prefix := netip.MustParsePrefix
	six := func(mode, kernel string) status.Peer {
		return status.Peer{Subnet: prefix("fd00:7:0:22::/64"), Mode: mode, Kernel: kernel}
	}
	both := working()
	both.IPv6 = &status.Half{
		Network: &status.Network{Network: prefix("fd00:7::/48"), Backend: "vxlan"},
		Lease:   &status.Lease{Subnet: prefix("fd00:7:0:21::/64"), Expires: epoch, MTU: 1430},
	}
	both.Peers = append(both.Peers, six(status.Tunnel, status.InPlace), six(status.Direct, "no route"))
	alone := both
	alone.Network, alone.Lease, alone.IPv6, alone.Peers = both.IPv6.Network, both.IPv6.Lease, nil, both.Peers[4:]
	ofIPv6 := []string{
		`peers{family="ipv6",mode="direct"} 1`, `peers{family="ipv6",mode="tunnel"} 1`, `peers{family="ipv6",mode="none"} 0`,
		`peers_wrong{family="ipv6"} 1`, `backend_info{backend="vxlan",network="fd00:7::/48"} 1`, "mtu_bytes 1430",
	}
	ofIPv4 := []string{`peers{mode="direct"} 1`, `peers{mode="tunnel"} 2`, "peers_wrong 2", `backend_info{backend="vxlan",network="172.7.0.0/16"} 1`}
	var c Counts
	told := func(s status.Status) string {
		return scrape(t, &c, func(context.Context) (status.Status, error) { return s, nil })
	}
	expect(t, told(both), append(ofIPv6, ofIPv4...)...)
	expect(t, told(alone), ofIPv6...)
	for _, line := range ofIPv4 {
		if strings.Contains(told(alone), "\nflanneld_"+line+"\n") {
			t.Errorf("%s without IPv4", line)
		}
	}
	if strings.Contains(told(working()), "family") {
		t.Error("a cluster of IPv4 alone has another label")
	}
}

// However large the cluster, the number of lines is the same.
// TestScrapesShareAnAnswer keeps those who ask often from keeping the daemon
// from its work.
func TestScrapesShareAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		h := new(Counts).Handler("1.2.3", func(context.Context) (status.Status, error) {
			asked++
			return working(), nil
		})
		scrape := func() {
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
		}
		for range 10 {
			scrape()
		}
		if asked != 1 {
			t.Errorf("ten scrapes at once asked %d times", asked)
		}
		time.Sleep(recent.FreshFor)
		if scrape(); asked != 2 {
			t.Errorf("a scrape after %v did not ask again", recent.FreshFor)
		}
	})
}

// TestAClientThatIsGone does not spoil the answer for the others.
func TestAClientThatIsGone(t *testing.T) {
	var c Counts
	h := c.Handler("1.2.3", func(ctx context.Context) (status.Status, error) { return working(), ctx.Err() })
	gone, leave := context.WithCancel(t.Context())
	leave()
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(gone, "GET", "/metrics", nil))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
	if !strings.Contains(w.Body.String(), "\nflanneld_ready 1\n") {
		t.Errorf("the next one reads\n%s", w.Body)
	}
}

func TestNoLabelPerPeer(t *testing.T) {
	var c Counts
	few, many := working(), working()
	for range 4000 {
		many.Peers = append(many.Peers, status.Peer{Mode: status.Tunnel, Kernel: status.InPlace})
	}
	count := func(s status.Status) int {
		return strings.Count(scrape(t, &c, func(context.Context) (status.Status, error) { return s, nil }), "\n")
	}
	if a, b := count(few), count(many); a != b || a > 70 {
		t.Errorf("%d lines for few peers, %d for many", a, b)
	}
}

func TestKernelIsCounted(t *testing.T) {
	var c Counts
	c.Wrote([]kernel.Op{{Action: kernel.Add, Object: kernel.Route{}}, {Action: kernel.Add, Object: kernel.Route{}, Repair: true}, {Action: kernel.Add, Object: kernel.Nexthop{}, Repair: true}, {Action: kernel.Add, Object: kernel.FDB{}, Repair: true}},
		[]error{nil, nil, nil, errors.New("no")})
	c.Applied(time.Millisecond, nil)
	c.Applied(30*time.Millisecond, nil)
	c.Applied(time.Minute, errors.New("no"))
	c.RulesRepaired()
	lines := scrape(t, &c, nothing)
	expect(t, lines, `kernel_operations_total{kind="route",result="success"} 2`, `kernel_operations_total{kind="fdb",result="error"} 1`,
		`repairs_total{kind="route"} 1`, `repairs_total{kind="nexthop"} 1`, `repairs_total{kind="fdb"} 0`, `repairs_total{kind="iptables"} 1`, "kernel_apply_success 0",
		`kernel_apply_duration_seconds_bucket{le="0.001"} 1`, `kernel_apply_duration_seconds_bucket{le="0.1"} 2`, `kernel_apply_duration_seconds_bucket{le="+Inf"} 3`,
		"kernel_apply_duration_seconds_sum 60.031", "kernel_apply_duration_seconds_count 3")
	c.Applied(time.Millisecond, nil)
	expect(t, scrape(t, &c, nothing), "kernel_apply_success 1")
}

func nothing(context.Context) (status.Status, error) { return status.Status{}, nil }

func TestRequestsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		client := store.Client()
		var c Counts
		r := c.Registry(client)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if _, err := r.List(ctx); err != nil {
			t.Fatal(err)
		}
		e, err := r.Put(ctx, subnet.Entry{Key: "config", Value: "{}"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Put(ctx, subnet.Entry{Key: "config", Value: "other"}); !errors.Is(err, subnet.ErrConflict) {
			t.Fatal(err)
		}
		if _, err := r.Refresh(ctx, e); err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		events := 0
		go func() { done <- r.Watch(ctx, 0, func(all []subnet.Event) { events += len(all) }) }()
		synctest.Wait()
		client.Partition(true)
		if err := <-done; err == nil || events == 0 {
			t.Fatal(err, events)
		}
		if err := r.Delete(ctx, e); err == nil {
			t.Fatal("deleted through a partition")
		}
		cancel()
		_, _ = r.List(ctx) // given up
		expect(t, scrape(t, &c, nothing), `etcd_requests_total{operation="list",result="success"} 1`,
			`etcd_requests_total{operation="put",result="success"} 1`, `etcd_requests_total{operation="put",result="conflict"} 1`,
			`etcd_requests_total{operation="refresh",result="success"} 1`, `etcd_requests_total{operation="delete",result="error"} 1`,
			`etcd_requests_total{operation="watch",result="success"} 1`, `etcd_requests_total{operation="watch",result="error"} 1`,
			"etcd_watch_restarts_total 1")
	})
}
