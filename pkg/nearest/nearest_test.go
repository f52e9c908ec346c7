package nearest_test

import (
	"slices"
	"testing"

	"flanneld/pkg/nearest"
)

func TestOf(t *testing.T) {
	known := slices.Values([]string{"etcd-endpoints", "healthz-port", "healthz-ip", "iface", "v"})
	for unknown, want := range map[string]string{
		"etcd-endpoint": "etcd-endpoints",
		"endpoints":     "etcd-endpoints",
		"healthport":    "healthz-port",
		"face":          "iface",
		"":              "",
		"x":             "",
		"frobnicate":    "",
	} {
		if got := nearest.Of(unknown, known); got != want {
			t.Errorf("%q: %q, want %q", unknown, got, want)
		}
	}
}
