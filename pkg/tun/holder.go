package tun

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// holder is the process that is attached to the device, "process 12 (flanneld)",
// as far as /proc tells: it says of each descriptor of a TUN device which one it is.
func holder(name string) string {
	paths, _ := filepath.Glob("/proc/[0-9]*/fdinfo/*")
	own, _ := os.Readlink("/proc/thread-self/ns/net")
	for _, p := range paths {
		content, err := os.ReadFile(p)
		if err != nil || !hasLine(string(content), "iff:\t"+name) {
			continue
		}
		process := filepath.Dir(filepath.Dir(p))
		if pid := filepath.Base(process); pid != "1" && !works(process, own) { // it keeps descriptors for services
			continue
		}
		command, _ := os.ReadFile(process + "/comm")
		return fmt.Sprintf("process %s (%s)", filepath.Base(process), strings.TrimSpace(string(command)))
	}
	return "another process"
}

// works reports whether one of the process's threads is in the network namespace.
func works(process, namespace string) bool {
	links, _ := filepath.Glob(process + "/task/*/ns/net")
	for _, l := range links {
		if at, err := os.Readlink(l); err == nil && at == namespace {
			return true
		}
	}
	return false
}

func hasLine(content, line string) bool {
	for l := range strings.Lines(content) {
		if strings.TrimRight(l, "\n") == line {
			return true
		}
	}
	return false
}
