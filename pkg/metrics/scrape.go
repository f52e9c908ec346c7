package metrics

import (
	"bytes"
	"context"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"k8s.io/klog/v2"

	"flanneld/pkg/condition"
	"flanneld/pkg/recent"
	"flanneld/pkg/status"
)

// Handler answers GET /metrics with the counts and with what ask tells of the
// daemon, which serves all who ask within a second: it compares the kernel's tables
// with what they should be. promhttp would do the same; its compressors alone take 2 MiB.
func (c *Counts) Handler(version string, ask func(context.Context) (status.Status, error)) http.Handler {
	latest := recent.New(ask)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := latest.Get(r.Context())
		if err != nil {
			s = status.Status{} // the counters are worth having all the same
		}
		text, err := Text(collector{c.read(), version, s})
		if err != nil {
			klog.ErrorS(err, "Cannot gather metrics")
			http.Error(w, "the metrics cannot be gathered; see flanneld's log", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", string(format))
		_, _ = w.Write(text)
	})
}

var format = expfmt.NewFormat(expfmt.TypeTextPlain)

// Text is what a collector has to tell.
func Text(c prometheus.Collector) ([]byte, error) {
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(c); err != nil {
		return nil, err
	}
	families, err := registry.Gather()
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	encoder := expfmt.NewEncoder(&text, format)
	for _, f := range families {
		if err := encoder.Encode(f); err != nil {
			return nil, err
		}
	}
	return text.Bytes(), nil
}

// collector is one scrape.
type collector struct {
	tally
	version string
	status  status.Status
}

// metric makes one metric of a family; labels are pairs of name and value.
func metric(
	out chan<- prometheus.Metric,
	kind prometheus.ValueType,
	name, help string,
	value float64,
	labels ...string,
) {
	var names, values []string
	for i := 0; i < len(labels); i += 2 {
		names, values = append(names, labels[i]), append(values, labels[i+1])
	}
	out <- prometheus.MustNewConstMetric(prometheus.NewDesc("flanneld_"+name, help, names, nil), kind, value, values...)
}

// Describe implements prometheus.Collector: what there is depends on the state.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	gauge := func(name, help string, value float64, labels ...string) {
		metric(out, prometheus.GaugeValue, name, help, value, labels...)
	}
	gauge("build_info", "What this flanneld was built from.", 1, "version", c.version, "goversion", runtime.Version())
	gauge(
		"kernel_apply_success",
		"Whether the last pass made the kernel as it should be.",
		number(c.applied > 0 && !c.failing),
	)
	if d := c.status.Daemon; d != nil {
		c.state(*d, gauge)
		c.peers(gauge)
		c.tunnels(out)
		c.probed(out)
	}
	c.counters(func(name, help string, value float64, labels ...string) {
		metric(out, prometheus.CounterValue, name, help, value, labels...)
	})
	out <- c.histogram()
}

type put func(name, help string, value float64, labels ...string)

func (c collector) state(d status.Daemon, gauge put) {
	s := c.status
	gauge(
		"ready",
		"Whether the lease, the list of peers, the kernel and the subnet file are as they should be.",
		number(d.Ready),
	)
	if !d.Applied.IsZero() {
		gauge(
			"kernel_last_success_timestamp_seconds",
			"When the kernel was last found, or made, as it should be.",
			seconds(d.Applied),
		)
	}
	c.conditions(gauge)
	gauge(
		"etcd_current",
		"Whether what is known of etcd is recent: its age is less than 20 seconds, and the last list arrived.",
		number(s.Etcd.Current),
	)
	if !s.Etcd.Read.IsZero() {
		gauge(
			"etcd_last_read_age_seconds",
			"How old what is known of etcd is: all that it held until then is known.",
			s.Time.Sub(s.Etcd.Read).Seconds(),
		)
	}
	for _, h := range s.Halves() {
		if n := h.Network; n != nil {
			gauge("backend_info", "The backend at work.", 1, "backend", n.Backend, "network", n.Network.String())
		}
	}
	if l := s.Lease; l != nil { // of both families
		gauge("mtu_bytes", "The MTU of containers.", float64(s.MTU()))
		if !l.Expires.IsZero() { // a reservation does not expire
			gauge("lease_expiry_timestamp_seconds", "When the lease ends unless it is renewed.", seconds(l.Expires))
		}
	}
}

// conditions are counted by code, all codes each time: an alert can tell "none"
// from "not known".
func (c collector) conditions(gauge put) {
	count := map[condition.Code]int{}
	for _, one := range c.status.Conditions {
		count[one.Code] += max(1, one.More)
	}
	for _, code := range condition.Codes() {
		gauge(
			"condition",
			"How many things are not as they should be, by code; `flanneld status` names them.",
			float64(count[code]),
			"code",
			string(code),
			"severity",
			string(code.Severity()),
		)
	}
	gauge(
		"problems",
		"How many things are not as they should be, without what follows from others.",
		float64(len(c.status.Conditions.Roots())),
	)
}

// peers are counted by family, as a host of both may be reached by one alone. Series about
// IPv6 have the label family, so that those of clusters without IPv6 are as ever.
func (c collector) peers(gauge put) {
	for _, h := range c.status.Halves() {
		if h.Lease == nil {
			continue
		}
		six := h.Lease.Subnet.Addr().Is6()
		var labels []string
		if six {
			labels = []string{"family", "ipv6"}
		}
		modes := map[string]int{status.Direct: 0, status.Tunnel: 0, status.NoWay: 0} // and what there is besides
		wrong := 0
		for _, p := range c.status.Peers {
			if p.Subnet.Addr().Is6() != six {
				continue
			}
			modes[p.Mode]++
			if !p.Right() {
				wrong++
			}
		}
		for mode, n := range modes {
			gauge("peers", "Other hosts, by how packets get there.", float64(n), append([]string{"mode", mode}, labels...)...)
		}
		gauge(
			"peers_wrong",
			"Other hosts to which there is no way, or whose way is not in the kernel as it should be.",
			float64(wrong),
			labels...,
		)
	}
}

func (c collector) counters(counter put) {
	for r, n := range c.requests {
		counter(
			"etcd_requests_total",
			"Requests to etcd; a watch counts when it stands and when it breaks.",
			float64(n),
			"operation",
			r.operation,
			"result",
			r.result,
		)
	}
	counter(
		"etcd_watch_restarts_total",
		"Watches that ended. Most go on without a list.",
		float64(c.restarts),
	)
	for w, n := range c.writes {
		counter("kernel_operations_total", "Writes to the kernel.", float64(n), "kind", w.kind, "result", w.result)
	}
	for _, kind := range []string{"route", "nexthop", "neighbour", "fdb", "peer", "device", "address", "iptables"} {
		counter(
			"repairs_total",
			"What was put right after somebody else had undone it.",
			float64(c.repairs[kind]),
			"kind",
			kind,
		)
	}
}

func (c collector) histogram() prometheus.Metric {
	buckets := make(map[float64]uint64, len(applyBounds))
	for i, bound := range applyBounds {
		buckets[bound.Seconds()] = c.applies[i]
	}
	desc := prometheus.NewDesc(
		"flanneld_kernel_apply_duration_seconds",
		"How long it takes to look at the kernel and put it right.",
		nil,
		nil,
	)
	return prometheus.MustNewConstHistogram(desc, c.applied, c.took.Seconds(), buckets)
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
