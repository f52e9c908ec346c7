package dist_test

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"net/netip"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"flanneld/pkg/kernel"
	"flanneld/pkg/metrics"
	"flanneld/pkg/status"
)

// scraped are all metrics of a daemon at work, with their labels.
func scraped(t *testing.T) map[string]string {
	t.Helper()
	var c metrics.Counts
	c.Wrote([]kernel.Op{{Object: kernel.Route{}}}, []error{nil})
	c.Applied(time.Second, nil)
	w := httptest.NewRecorder()
	c.Handler("1.2.3", func(context.Context) (status.Status, error) {
		return status.Status{
			Daemon:  &status.Daemon{Applied: time.Now()},
			Network: &status.Network{Network: netip.MustParsePrefix("172.7.0.0/16"), Backend: "vxlan"},
			Lease:   &status.Lease{Expires: time.Now()},
			Device: &status.Device{Name: "flannel0", Kind: status.UDP, Traffic: &status.Traffic{
				Dropped: map[string]uint64{"no route": 1},
			}},
			IPv6: &status.Half{
				Lease:  &status.Lease{Subnet: netip.MustParsePrefix("fd00:7:0:21::/64")},
				Device: &status.Device{Name: "flannel-wg-v6", Kind: status.WireGuard},
			},
			Etcd:   status.Etcd{Read: time.Now()},
			Probes: &status.Probes{},
		}, nil
	}).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
	out := map[string]string{
		"flanneld_etcd_requests_total": "operation result", // which takes an etcd
	}
	for line := range strings.Lines(w.Body.String()) {
		name, labels, _ := strings.Cut(strings.Fields(line)[0], "{")
		if !strings.HasPrefix(line, "#") {
			out[name] += " " + strings.Join(regexp.MustCompile(`(\w+)=`).FindAllString(labels, -1), " ")
		}
	}
	return out
}

var metricName = regexp.MustCompile(`flanneld_\w+`)

// The dashboard and the alerts only query metrics that flanneld has.
func TestMonitoringKnowsTheMetrics(t *testing.T) {
	known := scraped(t)
	asked := map[string]bool{}
	for _, file := range []string{"grafana-flanneld.json", "prometheus-flanneld.rules.yml"} {
		for _, name := range metricName.FindAllString(read(t, file), -1) {
			if _, ok := known[name]; !ok {
				t.Errorf("%s asks for %s, which flanneld does not have", file, name)
			}
			asked[name] = true
		}
	}
	for name := range known {
		if !asked[name] {
			t.Errorf("nobody asks for %s", name)
		}
	}
	by := regexp.MustCompile(`by \(([^)]*)\) \([^f]*(flanneld_\w+)`)
	for _, m := range by.FindAllStringSubmatch(read(t, "grafana-flanneld.json")+read(t, "prometheus-flanneld.rules.yml"), -1) {
		for label := range strings.SplitSeq(m[1], ", ") {
			if label != "instance" && !strings.Contains(known[m[2]], label) {
				t.Errorf("%s has no label %s", m[2], label)
			}
		}
	}
}

func TestDashboard(t *testing.T) {
	var d struct {
		Title  string
		Panels []struct {
			ID      int
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(read(t, "grafana-flanneld.json")), &d); err != nil || d.Title != "flanneld" || len(d.Panels) < 10 {
		t.Fatalf("%v: %+v", err, d)
	}
	taken := map[[2]int]string{}
	for _, p := range d.Panels {
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Errorf("%q lies over %q, or beside the page", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		for _, target := range p.Targets {
			if strings.Count(target.Expr, "(") != strings.Count(target.Expr, ")") || !strings.Contains(target.Expr, `instance=~"$instance"`) {
				t.Errorf("%q: %s", p.Title, target.Expr)
			}
		}
		if p.Title == "" || len(p.Targets) == 0 {
			t.Errorf("%+v", p)
		}
	}
}

// The alerts that there must be; their form by promtool where it is installed.
func TestRules(t *testing.T) {
	text := read(t, "prometheus-flanneld.rules.yml")
	for _, alert := range []string{"FlanneldLeaseNearExpiry", "FlanneldKernelApplyFailing", "FlanneldEtcdGone", "FlanneldContention", "FlanneldNotReady"} {
		_, rule, found := strings.Cut(text, "- alert: "+alert+"\n")
		rule, _, _ = strings.Cut(rule, "- alert: ")
		for _, part := range []string{"expr: ", "for: ", "severity: ", "summary: ", "description: "} {
			if !found || !strings.Contains(rule, part) {
				t.Errorf("%s has no %q", alert, part)
			}
		}
	}
	if strings.Contains(text, "\t") {
		t.Error("YAML has no tabs")
	}
	if promtool, err := exec.LookPath("promtool"); err == nil {
		if out, err := exec.Command(promtool, "check", "rules", "prometheus-flanneld.rules.yml").CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}
}
