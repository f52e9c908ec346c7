package health

import (
	"bytes"

	"k8s.io/klog/v2"
)

// serverLog takes net/http's lines. (klog.NewStandardLogger would write them to
// standard error as well, beside whatever the log goes to.)
type serverLog struct{}

func (serverLog) Write(line []byte) (int, error) {
	klog.Warning(string(bytes.TrimSpace(line)))
	return len(line), nil
}
