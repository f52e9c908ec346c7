package main

import (
	"strings"
	"testing"

	"k8s.io/klog/v2"
)

func TestSetUpLog(t *testing.T) {
	t.Cleanup(func() { _ = setUpLog(options{}) })
	if err := setUpLog(options{LogLevel: 3, LogModules: "logging_test=5", LogBacktraceAt: "nowhere.go:1"}); err != nil {
		t.Fatal(err)
	}
	if !klog.V(5).Enabled() {
		t.Error("--vmodule has no effect")
	}
	if err := setUpLog(options{LogLevel: 3}); err != nil {
		t.Fatal(err)
	}
	if !klog.V(3).Enabled() || klog.V(4).Enabled() {
		t.Error("--v=3 has no effect")
	}
	if err := setUpLog(options{LogModules: "a"}); err == nil || !strings.Contains(err.Error(), `--vmodule="a"`) {
		t.Errorf("error %v", err)
	}
}
