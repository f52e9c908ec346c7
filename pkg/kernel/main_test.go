package kernel_test

import (
	"io"
	"testing"

	"k8s.io/klog/v2"

	"flanneld/internal/lab"
)

func TestMain(m *testing.M) {
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard) // failing tests show what was written
	lab.Main(m)
}
