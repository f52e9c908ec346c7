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
func NeedEtcd() { need(etcdBinary) }

// NeedNewestEtcd does the same for [EtcdOptions.Newest].
func NeedNewestEtcd() { need(newestBinary) }

// NeedEtcdctl does the same for [Etcdctl].
func NeedEtcdctl() { need(etcdctlBinary) }

// Etcdctl is the path of etcd's command, of 3.5: the last one that speaks both APIs.
func Etcdctl(t TB) string {
	t.Helper()
	path, err := etcdctlBinary()
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
	return path
}

func need(binary func() (string, error)) {
	if os.Getenv(stageEnv) != "" {
		return
	}
	if _, err := binary(); err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

var (
	// etcdBinary is the path of the etcd that labs run: FLANNELD_LAB_ETCD where it
	// is set, and otherwise build/etcd, which is built once from tools/go.mod.
	etcdBinary = sync.OnceValues(func() (string, error) {
		return buildTool("FLANNELD_LAB_ETCD", "etcd", "tools", "go.etcd.io/etcd/server/v3")
	})

	// newestBinary is likewise that of the newest etcd.
	newestBinary = sync.OnceValues(func() (string, error) {
		return buildTool("FLANNELD_LAB_ETCD_NEWEST", "etcd-newest", "tools/etcd-newest", "go.etcd.io/etcd/server/v3")
	})

	// etcdctlBinary is the path of build/etcdctl.
	etcdctlBinary = sync.OnceValues(func() (string, error) {
		return buildTool("FLANNELD_LAB_ETCDCTL", "etcdctl", "tools/etcdctl", "go.etcd.io/etcd/etcdctl/v3")
	})
)

// buildTool builds another project's program into build/, from the module in a folder.
func buildTool(env, name, module, program string) (string, error) {
	if path := os.Getenv(env); path != "" {
		return filepath.Abs(path)
	}
	root, err := ModuleRoot()
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, "build", name)
	unlock, err := lockFile(path + ".lock") // packages are tested side by side
	if err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	defer unlock()
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	temporary := path + ".new" // so that an interrupted build leaves nothing that looks complete
	build := exec.Command("go", "build", "-C", filepath.Join(root, module), "-o", temporary, program)
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w; where this process has no network, run `make build/%s` before\n%s",
			name, err, name, out)
	}
	return path, os.Rename(temporary, path)
}
