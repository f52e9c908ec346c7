// Package pkg holds nothing but the rule by which its folders may import each
// other.
package pkg

import (
	"os/exec"
	"strings"
	"testing"
)

func TestImportsPointOneWay(t *testing.T) {
	for folder, forbidden := range map[string][]string{
		"subnet":          {"kernel", "backend", "agent", "firewall", "extif", "health", "subnet/etcdconn", "subnet/etcdv2", "subnet/etcdv3", "subnet/etcdauto", "subnet/subnettest", "kernel/kerneltest"},
		"condition":       {"subnet", "kernel", "backend", "agent", "firewall", "extif", "health", "status", "check"},
		"kernel":          {"subnet", "backend", "agent", "firewall", "extif", "health", "condition"},
		"wgdevice":        {"subnet", "kernel", "backend", "agent", "firewall", "extif", "health", "condition"},
		"firewall":        {"subnet", "kernel", "backend", "agent"},
		"underlay":        {"subnet", "backend", "agent", "firewall", "extif"},
		"tun":             {"subnet", "kernel", "backend", "agent", "firewall", "extif", "health", "udptunnel"},
		"udptunnel":       {"subnet", "kernel", "backend", "agent", "firewall", "extif", "health"},
		"extif":           {"subnet", "backend", "agent", "firewall"},
		"health":          {"subnet", "kernel", "backend", "agent", "firewall"},
		"backend":         {"agent", "firewall", "extif", "subnet/etcdconn"},
		"subnet/etcdv2":   {"kernel", "backend", "agent", "firewall", "extif", "subnet/etcdv3"},
		"subnet/etcdv3":   {"kernel", "backend", "agent", "firewall", "extif", "subnet/etcdv2"},
		"subnet/etcdmove": {"subnet/etcdconn", "kernel", "agent"},
		"agent":           {"subnet/etcdconn", "subnet/subnettest", "kernel/kerneltest", "health", "metrics", "check", "admin"},
		"status":          {"backend", "agent", "firewall", "extif", "health", "metrics", "subnet/etcdconn"},
		"probe":           {"subnet", "kernel", "backend", "agent", "firewall", "extif", "health", "status", "check"},
		"page":            {"backend", "agent", "firewall", "extif", "health", "metrics", "check", "subnet/etcdconn"},
		"monitor":         {"subnet/etcdconn", "backend", "agent", "firewall", "extif", "health", "metrics", "check"},
		"metrics":         {"backend", "agent", "firewall", "extif", "health", "subnet/etcdconn"},
		"check":           {"daemon", "backend", "agent", "firewall", "extif", "health", "metrics", "subnet/etcdconn"},
		"daemon":          {"check", "admin", "subnet/etcdmove", "subnet/subnettest", "kernel/kerneltest"},
		"admin":           {"daemon", "agent", "firewall", "extif", "health", "metrics", "status", "subnet/etcdconn"},
	} {
		out, err := exec.Command("go", "list", "-deps", "flanneld/pkg/"+folder).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		deps := "\n" + string(out)
		if !strings.Contains(deps, "\nflanneld/pkg/"+folder+"\n") {
			t.Fatalf("go list says nothing of %s:\n%s", folder, out)
		}
		for _, f := range forbidden {
			if strings.Contains(deps, "\nflanneld/pkg/"+f+"\n") {
				t.Errorf("pkg/%s imports pkg/%s", folder, f)
			}
		}
	}
}

// TestNoLab wants no test bench in the daemon: whatever is not a test.
func TestNoLab(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "flanneld/pkg/...").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "flanneld/internal/") {
			t.Errorf("a file below pkg that is no test imports %s", line)
		}
	}
}

// TestUnusedMethodsAreLeftOut links the daemon, and wants nothing in it that looks methods
// up by a name which the linker does not know: it would keep every exported method of every
// type then, a quarter of the program and 4 MiB of each daemon's memory.
func TestUnusedMethodsAreLeftOut(t *testing.T) {
	link := exec.Command("go", "build", "-tags", "grpcnotrace", "-ldflags", "-dumpdep", "-o", t.TempDir(), "flanneld/cmd/flanneld")
	link.Env = append(link.Environ(), "CGO_ENABLED=0")
	out, err := link.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if !strings.Contains(string(out), "main.main -> ") {
		t.Fatal("the linker says nothing of main.main")
	}
	for line := range strings.Lines(string(out)) {
		if from, _, _ := strings.Cut(line, " -> "); strings.Contains(from, "<ReflectMethod>") {
			t.Errorf("%s keeps all methods", from)
		}
	}
}
