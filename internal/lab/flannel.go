package lab

import "sync"

// NeedFlannel builds the newest flannel, as NeedEtcd does etcd.
func NeedFlannel() { need(flannelBinary) }

// Flannel is the path of flannel 0.28, for [FlanneldOptions.Binary]. It works with
// etcd's v3 API alone.
func Flannel(t TB) string {
	t.Helper()
	path, err := flannelBinary()
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
	return path
}

var flannelBinary = sync.OnceValues(func() (string, error) {
	return buildTool("FLANNELD_LAB_FLANNEL", "flannel", "tools/flannel", "github.com/flannel-io/flannel")
})
