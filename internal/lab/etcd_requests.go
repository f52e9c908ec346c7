package lab

import (
	"bufio"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// Requests is the number of requests for keys that the members have received
// since their start.
func (e *Etcd) Requests() int {
	e.t.Helper()
	total := 0
	for _, m := range e.Members {
		reply, err := (&http.Client{Transport: e.transport}).Get(m.Endpoint + "/metrics")
		e.must("read the metrics", err)
		total += sumMetric(reply.Body, "etcd_http_received_total")
		_ = reply.Body.Close()
	}
	return total
}

// sumMetric adds up a counter over its labels.
func sumMetric(text io.Reader, name string) (sum int) {
	lines := bufio.NewScanner(text)
	for lines.Scan() {
		rest, found := strings.CutPrefix(lines.Text(), name+"{")
		if !found {
			continue
		}
		_, value, _ := strings.Cut(rest, "} ")
		n, _ := strconv.ParseFloat(value, 64)
		sum += int(n)
	}
	return sum
}
