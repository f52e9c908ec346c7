package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
)

// NeedCNI builds CNI's plugins, as NeedEtcd does etcd.
func NeedCNI() { need(cniPlugins) }

// CNIPlugins is the folder with cnitool and CNI's plugins, flannel's own among
// them.
func CNIPlugins(t TB) string {
	t.Helper()
	dir, err := cniPlugins()
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
	return dir
}

// cniPlugins builds the plugins into build/cni, once. flannel's is in another release
// than the others, and so in another module.
var cniPlugins = sync.OnceValues(func() (string, error) {
	root, err := ModuleRoot()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, "build", "cni")
	unlock, err := lockFile(dir + ".lock")
	if err != nil {
		return "", fmt.Errorf("build CNI's plugins: %w", err)
	}
	defer unlock()
	for _, of := range []struct{ module, last string }{{"cni", "cnitool"}, {"cni-flannel", "flannel"}} {
		if _, err := os.Stat(filepath.Join(dir, of.last)); err == nil {
			continue
		}
		build := exec.Command("make", "-C", root, "build/cni/"+of.last)
		if out, err := build.CombinedOutput(); err != nil {
			return "", fmt.Errorf(
				"build CNI's plugins: %w; where this process has no network, run `make build/cni/%s` before\n%s",
				err, of.last, out)
		}
	}
	return dir, nil
})
