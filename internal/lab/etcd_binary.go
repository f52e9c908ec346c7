package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
)

// NeedEtcd builds etcd if it is not there yet. A package that uses it says so
// in its TestMain, before Main: in the lab there is no network to fetch modules
// by.
func NeedEtcd() {
	if os.Getenv(stageEnv) != "" {
		return
	}
	if _, err := etcdBinary(); err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

// etcdBinary is the path of the etcd that labs run: FLANNELD_LAB_ETCD where it
// is set, and otherwise build/etcd, which is built once from tools/go.mod.
var etcdBinary = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("FLANNELD_LAB_ETCD"); path != "" {
		return filepath.Abs(path)
	}
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, "build", "etcd")
	unlock, err := lockFile(path + ".lock") // packages are tested side by side
	if err != nil {
		return "", fmt.Errorf("build etcd: %w", err)
	}
	defer unlock()
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	fresh := path + ".new" // so that an interrupted build leaves nothing that looks complete
	build := exec.Command("go", "build", "-C", filepath.Join(root, "tools"), "-o", fresh, "go.etcd.io/etcd/server/v3")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build etcd: %w; where this process has no network, run `make build/etcd` before\n%s", err, out)
	}
	return path, os.Rename(fresh, path)
})
