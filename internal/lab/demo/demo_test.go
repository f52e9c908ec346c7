package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"flanneld/internal/docs"
	"flanneld/internal/lab"
)

// TestMain lets the test binary be the demo, too, as the tests start it.
func TestMain(m *testing.M) {
	if os.Getenv("DEMO") != "" {
		main()
	}
	lab.NeedEtcd()
	lab.NeedNewestEtcd()
	lab.NeedFlanneld()
	os.Exit(m.Run())
}

// demo prepares a run of the whole program.
func demo(t *testing.T, env ...string) (cmd *exec.Cmd, out *bytes.Buffer) {
	cmd = exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(append(os.Environ(), "DEMO=1", "KEEP="), env...)
	out = &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = out, out
	return cmd, out
}

// fake is a program in flanneld's place.
func fake(t *testing.T, script string) string {
	path := filepath.Join(t.TempDir(), "flanneld")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return "FLANNELD_BINARY=" + path
}

func exitCode(err error) int {
	if exit, ok := err.(*exec.ExitError); ok {
		return exit.ExitCode()
	}
	return 0
}

func TestTheTourEndsWell(t *testing.T) {
	for _, etcd := range []string{"2", "3"} {
		t.Run("etcd "+etcd, func(t *testing.T) { endsWell(t, etcd) })
	}
}

func endsWell(t *testing.T, etcd string) {
	cmd, out := demo(t, "ETCD="+etcd)
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	if shown := docs.Containing(t, "README.md", "The cluster's network goes into etcd").Text; etcd == "2" && !docs.Shows(shown, out.String()) {
		t.Errorf("README.md shows\n%s\nof\n%s", shown, out)
	}
	for _, want := range []string{
		`{"PublicIP":"10.4.7.21","BackendType":"host-gw"}`,
		"172.7.22.0/24 via 10.4.7.22 dev ens33",
		"172.7.21.0/24 via 10.4.7.21 dev ens33",
		"FLANNEL_SUBNET=172.7.22.1/24",
		"flanneld is running",
		"hello, 172.7.21.2",
		"FAULT    forward",
		"FAULT    addresses",
		"FAULT    probe",
		"all is well",
		"\nShown: two leases,",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the tour lacks %q:\n%s", want, out)
		}
	}
}

func TestAFailureIsReported(t *testing.T) {
	cmd, out := demo(t, fake(t, "echo out of order; exit 3"))
	if code := exitCode(cmd.Run()); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	for _, want := range []string{"FAILED", "exit code 3", "out of order", "default via 10.4.7.254", "The demo has failed"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
	if strings.Contains(out.String(), "Shown:") {
		t.Errorf("a failed tour boasts:\n%s", out)
	}
}

func TestInterruptEndsEverything(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(signal.String(), func(t *testing.T) {
			// The daemons hold the pipe open until they are gone.
			fifo := filepath.Join(t.TempDir(), "alive")
			if err := syscall.Mkfifo(fifo, 0o600); err != nil {
				t.Fatal(err)
			}
			cmd, out := demo(t, fake(t, "exec >"+fifo+"; echo up; exec sleep 600"))
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			alive, err := os.Open(fifo)
			if err != nil {
				t.Fatal(err)
			}
			defer alive.Close()
			lines := bufio.NewReader(alive)
			if line, err := lines.ReadString('\n'); err != nil || line != "up\n" {
				t.Fatalf("%q, %v", line, err)
			}
			start := time.Now()
			if err := cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			code := exitCode(cmd.Wait())
			if want := 130; code != want && signal != syscall.SIGKILL {
				t.Errorf("exit code %d, want %d:\n%s", code, want, out)
			}
			if rest, err := io.ReadAll(lines); err != nil || string(rest) != "up\n" && len(rest) > 0 {
				t.Errorf("the daemons said %q, %v", rest, err)
			}
			if took := time.Since(start); took > soon {
				t.Errorf("it took %v until all daemons were gone", took)
			}
		})
	}
}

func TestKeepOffersShells(t *testing.T) {
	cmd, _ := demo(t, "KEEP=1")
	r, w := io.Pipe()
	defer w.Close()
	cmd.Stdout = w
	enter, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(r)
	shell := regexp.MustCompile(`^\s+hdss7-21\s+(?:sudo )?(nsenter .*) sh$`)
	var found string
	for lines.Scan() && found == "" {
		if m := shell.FindStringSubmatch(lines.Text()); m != nil {
			found = m[1]
		}
	}
	if found == "" {
		t.Fatal("no shell is offered on hdss7-21")
	}
	go func() {
		for lines.Scan() { // so that the demo can go on
		}
	}()
	out, err := exec.CommandContext(t.Context(), "sh", "-c", found+" sh -c 'ip route; cat /run/lab/hdss7-21/subnet.env'").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "172.7.22.0/24 via 172.7.22.0") || !strings.Contains(string(out), "FLANNEL_SUBNET") {
		t.Errorf("%s: %v\n%s", found, err, out)
	}
	fmt.Fprintln(enter)
	if err := cmd.Wait(); err != nil {
		t.Errorf("after Enter: %v", err)
	}
}
