package bench

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkMachine says where and when the others ran. It runs first, by the name of its file.
func BenchmarkMachine(b *testing.B) {
	b.ReportMetric(0, "ns/op")
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		b.Fatal(err)
	}
	cpus, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		b.Fatal(err)
	}
	_, model, _ := strings.Cut(string(cpus), "model name\t: ")
	model, _, _ = strings.Cut(model, "\n")
	version, err := exec.Command("../../build/etcd", "--version").Output()
	if err != nil {
		b.Fatal(err)
	}
	first, _, _ := strings.Cut(string(version), "\n")
	release, _, _ := strings.Cut(unix.ByteSliceToString(name.Release[:]), "-")
	load, err := os.ReadFile("/proc/loadavg") // of everything else
	if err != nil {
		b.Fatal(err)
	}
	before, _, _ := strings.Cut(string(load), " ")
	t := newTable(b, "machine", "The machine", "day", "processor", "cores", "load before", "Linux", "Go", "etcd")
	t.row(time.Now().Format(time.DateOnly), model, runtime.NumCPU(), before, release, strings.TrimPrefix(runtime.Version(), "go"),
		strings.TrimPrefix(first, "etcd Version: "))
}
