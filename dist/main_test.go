// Package dist_test runs what is installed beside flanneld: the scripts under
// each shell that people have as sh, the settings by the programs that read them.
package dist_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"flanneld/internal/lab"
)

// TestMain enters the lab's namespaces: there is root for supervisord, an empty
// /run, and an end to every process that a test leaves behind.
func TestMain(m *testing.M) {
	lab.NeedFlanneld()
	lab.NeedReleaseTool()
	lab.Main(m)
}

// shells are the programs that stand behind /bin/sh: Debian, CentOS, Alpine.
var shells = map[string][]string{
	"dash":    {"dash"},
	"bash":    {"bash", "--posix"},
	"busybox": {"busybox", "sh"},
}

func eachShell(t *testing.T, test func(t *testing.T, shell []string)) {
	for name, shell := range shells {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			need(t, shell[0], name)
			test(t, shell)
		})
	}
}

// need fails the test on a machine without a program.
func need(t *testing.T, program, debianPackage string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Fatalf("%v: install Debian's package %s (make deps)", err, debianPackage)
	}
}

// result is how a program ended.
type result struct {
	code           int
	stdout, stderr string
}

// run starts a program in dir with a short environment and further variables.
func run(t *testing.T, dir string, env []string, args ...string) result {
	t.Helper()
	var stdout, stderr strings.Builder
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &stdout, &stderr
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin", "HOME=" + dir}, env...)
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// succeed is run for what must end well; it returns the standard output.
func succeed(t *testing.T, dir string, env []string, args ...string) string {
	t.Helper()
	r := run(t, dir, env, args...)
	if r.code != 0 {
		t.Fatalf("%q ended with %d\n%s%s", args, r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

// source is the path of a file of dist.
func source(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func write(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask
		t.Fatal(err)
	}
}

func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return strings.Join(out, " ")
}
