package wgdevice_test

import (
	"io"
	"os"
	"testing"

	"k8s.io/klog/v2"

	"flanneld/internal/lab"
)

func TestMain(m *testing.M) {
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	if os.Getenv(processEnv) != "" {
		serveProcess()
		return
	}
	lab.Main(m)
}
