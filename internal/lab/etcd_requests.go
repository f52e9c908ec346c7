package lab

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// Requests is the number of requests that the members have received since their
// start, by either API; by v2 those for keys, without the watches.
func (e *Etcd) Requests() int {
	e.t.Helper()
	return int(e.metric("etcd_http_received_total") + e.metric("grpc_server_started_total"))
}

// Memory is what the members have in memory, in bytes.
func (e *Etcd) Memory() int {
	e.t.Helper()
	return int(e.metric("process_resident_memory_bytes"))
}

// PeakMemory is the most that the members had in memory since their start, in bytes.
func (e *Etcd) PeakMemory() (sum int) {
	e.t.Helper()
	for _, m := range e.Members {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.process.Pid))
		e.must("read the peak of memory", err)
		_, peak, _ := strings.Cut(string(status), "VmHWM:")
		kilobytes, _ := strconv.Atoi(strings.TrimSpace(strings.Split(peak, " kB")[0]))
		sum += kilobytes << 10
	}
	return sum
}

// CPUTime is what the members have used since their start.
func (e *Etcd) CPUTime() time.Duration {
	e.t.Helper()
	return time.Duration(e.metric("process_cpu_seconds_total") * float64(time.Second))
}

// metric adds up a counter over the members and its labels.
func (e *Etcd) metric(name string) (sum float64) {
	e.t.Helper()
	for _, m := range e.Members {
		reply, err := (&http.Client{Transport: e.transport}).Get(m.HTTP + "/metrics")
		e.must("read the metrics", err)
		sum += sumMetric(reply.Body, name)
		_ = reply.Body.Close()
	}
	return sum
}

// sumMetric adds up a counter over its labels.
func sumMetric(text io.Reader, name string) (sum float64) {
	lines := bufio.NewScanner(text)
	for lines.Scan() {
		series, value, _ := strings.Cut(lines.Text(), " ")
		if family, _, _ := strings.Cut(series, "{"); family != name {
			continue
		}
		n, _ := strconv.ParseFloat(value[strings.LastIndexByte(value, ' ')+1:], 64)
		sum += n
	}
	return sum
}

// Metric is a metric of Prometheus', added up over the members and its labels.
func (e *Etcd) Metric(name string) float64 {
	e.t.Helper()
	return e.metric(name)
}
