package dist_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestStartScript: flanneld.sh passes the tutorial's flags, from whatever folder
// it is called, and gives its process to flanneld.
func TestStartScript(t *testing.T) {
	eachShell(t, func(t *testing.T, shell []string) {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "flanneld.sh"), read(t, "flanneld.sh"), 0o755)
		write(t, filepath.Join(dir, "flanneld"), "#!/bin/sh\nprintf '%s\\n' \"$(pwd)\" \"$$\" \"$@\"\n", 0o755)
		script := append(append([]string{"sh", "-c", `echo $$; exec "$@"`, "sh"}, shell...), filepath.Join(dir, "flanneld.sh"), "--v=1", "a b")
		pid, rest, _ := strings.Cut(succeed(t, "/", nil, script...), "\n")
		want := fmt.Sprintf(`%s
%s
--public-ip=10.4.7.21
--iface=ens33
--etcd-endpoints=https://10.4.7.12:2379,https://10.4.7.21:2379,https://10.4.7.22:2379
--etcd-certfile=./cert/client.pem
--etcd-keyfile=./cert/client-key.pem
--etcd-cafile=./cert/ca.pem
--subnet-file=./subnet.env
--healthz-port=2401
--ip-masq=false
--v=1
a b
`, dir, pid)
		if rest != want {
			t.Errorf("flanneld was started with\n%s\nwant\n%s", rest, want)
		}
	})
}

// TestSupervisor lets a real supervisord run flannel.ini, with each of the two
// start scripts: ours, and the tutorial's, which has no exec.
func TestSupervisor(t *testing.T) {
	t.Parallel()
	need(t, "supervisord", "supervisor")
	for name, script := range map[string]string{
		"ours":                 read(t, "flanneld.sh"),
		"the tutorial's, bash": "#!/bin/bash\n./flanneld \\\n  --iface=ens33\n",
		"the tutorial's, dash": "#!/bin/dash\n./flanneld \\\n  --iface=ens33\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testSupervised(t, script)
		})
	}
}

func testSupervised(t *testing.T, script string) {
	dir := t.TempDir()
	install := filepath.Join(dir, "flannel")
	write(t, filepath.Join(install, "flanneld.sh"), script, 0o755)
	// A line in a file for as long as it lives. Its output is longer than the
	// token that supervisord looks for with stdout_capture_maxbytes: it holds
	// shorter output back.
	write(t, filepath.Join(install, "flanneld"), `#!/bin/sh
trap 'echo TERM >>ended; sed -i "/^$$\$/d" alive; exit 0' TERM
echo $$ >>alive
echo "started with $*, which is a line as long as those of flanneld"
while :; do sleep 0.05; done
`, 0o755)
	ini := strings.NewReplacer("/usr/local/flannel", install, "/data/logs", dir, "startsecs=30", "startsecs=0").
		Replace(read(t, "supervisor/flannel.ini"))
	write(t, filepath.Join(dir, "flannel.ini"), ini, 0o644)
	write(t, filepath.Join(dir, "supervisord.conf"), `[supervisord]
nodaemon=true
logfile=%(here)s/supervisord.log
pidfile=%(here)s/supervisord.pid
[unix_http_server]
file=%(here)s/sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://%(here)s/sock
[include]
files=flannel.ini
`, 0o644)
	if err := os.Mkdir(filepath.Join(dir, "flanneld"), 0o755); err != nil { // of stdout_logfile
		t.Fatal(err)
	}
	startSupervisord(t, dir)
	control := func(verb string) string {
		return run(t, dir, nil, "supervisorctl", "-c", "supervisord.conf", verb, "flanneld-7-21").stdout
	}
	alive := filepath.Join(install, "alive")
	pids := func() int { return strings.Count(readIfThere(alive), "\n") }
	eventually(t, dir, "one flanneld", func() bool { return pids() == 1 })

	if got := control("stop"); !strings.Contains(got, "flanneld-7-21: stopped") {
		t.Errorf("stop: %s", got)
	}
	eventually(t, dir, "no flanneld after stop", func() bool { return pids() == 0 })
	if got := control("start"); !strings.Contains(got, "flanneld-7-21: started") {
		t.Errorf("start: %s", got)
	}
	eventually(t, dir, "one flanneld after start", func() bool { return pids() == 1 })
	eventually(t, dir, "the output of both in the log file", func() bool {
		return strings.Count(readIfThere(filepath.Join(dir, "flanneld/flanneld.stdout.log")), "started with") == 2
	})
	if ended := readIfThere(filepath.Join(install, "ended")); ended != "TERM\n" {
		t.Errorf("flanneld was ended by %q", ended)
	}
}

// startSupervisord ends it, and what it started, with the test.
func startSupervisord(t *testing.T, dir string) {
	t.Helper()
	cmd := exec.Command("supervisord", "-n", "-c", "supervisord.conf")
	cmd.Dir = dir
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
}

func readIfThere(path string) string {
	content, _ := os.ReadFile(path)
	return string(content)
}

// eventually polls: the limit is far beyond what a busy machine needs.
func eventually(t *testing.T, dir, what string, holds func() bool) {
	t.Helper()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(20 * time.Second); !holds(); <-poll.C {
		if time.Now().After(deadline) {
			t.Fatalf("never came: %s\n%s", what, readIfThere(filepath.Join(dir, "supervisord.log")))
		}
	}
}
