package lab

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"sync"
)

// NeedReleaseTool builds what dist/build.sh runs, as NeedFlanneld does flanneld.
func NeedReleaseTool() { need(releaseTool) }

// ReleaseTool is the path of the program made of tools/release.
func ReleaseTool(t TB) string {
	t.Helper()
	path, err := releaseTool()
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
	return path
}

var releaseTool = sync.OnceValues(func() (string, error) {
	root, err := ModuleRoot()
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, "build", "release")
	unlock, err := lockFile(path + ".lock")
	if err != nil {
		return "", fmt.Errorf("build the release tool: %w", err)
	}
	defer unlock()
	build := exec.Command("go", "build", "-C", filepath.Join(root, "tools/release"), "-o", path, ".")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the release tool: %w; where this process has no network, run `make build/release` before\n%s",
			err, out)
	}
	return path, nil
})
