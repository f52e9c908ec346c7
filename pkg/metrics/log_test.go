package metrics

import (
	"bytes"
	"flag"
	"strings"
	"testing"
	"time"

	"k8s.io/klog/v2"

	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/subnettest"
)

// TestRequestsAreLogged looks at V(3), and sees nothing below.
func TestRequestsAreLogged(t *testing.T) {
	flags := flag.NewFlagSet("klog", flag.PanicOnError)
	klog.InitFlags(flags)
	state := klog.CaptureState()
	defer state.Restore()
	_ = flags.Set("logtostderr", "false")
	_ = flags.Set("stderrthreshold", "FATAL")
	for level, lines := range map[string]int{"2": 0, "3": 2} {
		var log bytes.Buffer
		klog.SetOutputBySeverity("INFO", &log)
		_ = flags.Set("v", level)
		var c Counts
		r := c.Registry(subnettest.NewStore().Client())
		e := subnet.Entry{Key: "config", Value: "{}", TTL: time.Hour}
		_, _ = r.Put(t.Context(), e)
		e.Value = "other"
		_, _ = r.Put(t.Context(), e)
		klog.Flush()
		if n := strings.Count(log.String(), `"Request to etcd" operation="put" key="config" took="`); n != lines {
			t.Errorf("at level %s %d lines:\n%s", level, n, log.String())
		}
		if lines > 0 && !strings.Contains(log.String(), `result="success"`+"\n") {
			t.Errorf("no success:\n%s", log.String())
		}
		if lines > 0 && !strings.Contains(log.String(), `result="conflict" err="`) {
			t.Errorf("no conflict:\n%s", log.String())
		}
	}
}
