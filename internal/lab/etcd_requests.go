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
	return int(e.Metric("etcd_http_received_total") + e.Metric("grpc_server_started_total"))
}

// Memory is what the members have in memory, in bytes.
func (e *Etcd) Memory() int {
	e.t.Helper()
	return int(e.Metric("process_resident_memory_bytes"))
}

// CPUTime is what the members have used since their start.
func (e *Etcd) CPUTime() time.Duration {
	e.t.Helper()
	return time.Duration(e.Metric("process_cpu_seconds_total") * float64(time.Second))
}

// Counters are the sums of a metric's series over the members, by the value of a label:
// "grpc_method".
func (e *Etcd) Counters(name, label string) map[string]float64 {
	e.t.Helper()
	sums := map[string]float64{}
	e.samples(name, func(labels string, value float64) {
		_, after, _ := strings.Cut(labels, label+`="`)
		of, _, _ := strings.Cut(after, `"`)
		sums[of] += value
	})
	return sums
}

// PeakMemory is the most that the members have had in memory since their start, or
// since it was last asked, in bytes.
func (e *Etcd) PeakMemory() (sum int) {
	e.t.Helper()
	for _, m := range e.Members {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.process.Pid))
		e.must("read the peak memory", err)
		var kib int
		_, line, _ := strings.Cut(string(status), "VmHWM:")
		_, err = fmt.Sscan(line, &kib)
		e.must("read the peak memory", err)
		// proc_pid_clear_refs(5): 5 resets the peak.
		e.must("reset the peak memory", os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", m.process.Pid), []byte("5"), 0))
		sum += kib << 10
	}
	return sum
}

// Metric adds up a metric of Prometheus' over the members and its labels.
func (e *Etcd) Metric(name string) (sum float64) {
	e.t.Helper()
	e.samples(name, func(_ string, value float64) { sum += value })
	return sum
}

// samples reads those of a metric of all members.
func (e *Etcd) samples(name string, do func(labels string, value float64)) {
	e.t.Helper()
	for _, m := range e.Members {
		reply, err := (&http.Client{Transport: e.transport}).Get(m.HTTP + "/metrics")
		e.must("read the metrics", err)
		eachSample(reply.Body, name, do)
		_ = reply.Body.Close()
	}
}

// eachSample reads the samples of a metric out of Prometheus' text format.
func eachSample(text io.Reader, name string, do func(labels string, value float64)) {
	lines := bufio.NewScanner(text)
	for lines.Scan() {
		series, value, _ := strings.Cut(lines.Text(), " ")
		family, labels, _ := strings.Cut(series, "{")
		if family != name {
			continue
		}
		n, _ := strconv.ParseFloat(value[strings.LastIndexByte(value, ' ')+1:], 64)
		do(labels, n)
	}
}
