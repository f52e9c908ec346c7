package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	stdlog "log"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/grpclog"
	"k8s.io/klog/v2"

	"flanneld/internal/cli"
	"flanneld/internal/lab"
)

func TestSetUpLog(t *testing.T) {
	t.Cleanup(func() { _ = setUpLog(options{}) })
	if err := setUpLog(options{LogLevel: 3, LogModules: "logging_test=5", LogBacktraceAt: "nowhere.go:1"}); err != nil {
		t.Fatal(err)
	}
	if !klog.V(5).Enabled() {
		t.Error("--vmodule has no effect")
	}
	if err := setUpLog(options{LogLevel: 3}); err != nil {
		t.Fatal(err)
	}
	if !klog.V(3).Enabled() || klog.V(4).Enabled() {
		t.Error("--v=3 has no effect")
	}
	if err := setUpLog(options{LogModules: "a"}); err == nil || !strings.Contains(err.Error(), `--vmodule="a"`) {
		t.Errorf("error %v", err)
	}
}

// logged is what a helper process writes to standard error by some flags.
func logged(t *testing.T, helper string, flags ...string) []string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, flags...)
	cmd.Env = append(os.Environ(), logHelperEnv+"="+helper, "GORACE=atexit_sleep_ms=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	_ = cmd.Run() // it ends with an error
	return strings.Split(strings.TrimSuffix(stderr.String(), "\n"), "\n")
}

const logHelperEnv = "FLANNELD_TEST_LOG"

// logHelper is flanneld with a daemon that only logs.
func logHelper() {
	p := newProgram()
	p.serve = func(_ context.Context, o options) error {
		if err := setUpLog(o); err != nil {
			return err
		}
		klog.InfoS("Has a lease", "subnet", netip.MustParsePrefix("172.7.21.0/24"), "took", 1500*time.Millisecond)
		klog.ErrorS(io.ErrUnexpectedEOF, "Cannot read", "signal", os.Interrupt)
		klog.InfoS("From outside", "key", "a\n\x1b[31mb", "cause", errors.New("c\nd"))
		klog.Infof("one\ntwo")
		stdlog.Print("from a library")
		grpclog.Error("from gRPC")
		klog.V(1).InfoS("Level 1")
		klog.V(3).InfoS("Level 3")
		return errors.New("the end")
	}
	os.Exit(p.end(p.run(context.Background(), os.Args[1:])))
}

func TestLogFormats(t *testing.T) {
	for _, tt := range []struct {
		flags string
		want  []string // one for each line, contained in it
	}{
		{"--log-format=json", []string{
			`"level":"INFO","msg":"Has a lease","subnet":"172.7.21.0/24","took":"1.5s"}`,
			`"level":"ERROR","msg":"Cannot read","err":"unexpected EOF","signal":"interrupt"}`,
			`"level":"INFO","msg":"From outside","key":"a??[31mb","cause":"c?d"}`,
			`"level":"INFO","msg":"one?two"}`,
			`"level":"ERROR","msg":"from a library"}`,
			`ERROR: from gRPC"}`,
			`"level":"ERROR","msg":"Flanneld ends with an error","err":"the end"}`,
		}},
		{"--log-format=json -v=3", []string{
			"", "", "", "", "", "", `"level":"DEBUG","msg":"Level 1"}`, `"level":"DEBUG","msg":"Level 3"}`, "the end",
		}},
		{"--log-format=json -vmodule=logging_te*=1", []string{"", "", "", "", "", "", `"msg":"Level 1"}`, "the end"}},
		{"--log-format=json --vmodule=other=3", []string{"", "", "", "", "", "", "the end"}},
		{"--bogus --log-format json", []string{
			`"msg":"Flanneld ends with an error","err":"unknown flag \"--bogus\": flanneld --help lists the flags"}`,
		}},
		{"", []string{
			`] "Has a lease" subnet="172.7.21.0/24" took="1.5s"`,
			`] "Cannot read" err="unexpected EOF" signal="interrupt"`,
			`] "From outside" key="a??[31mb" cause="c?d"`,
			"] one?two",
			"] from a library",
			`] "gRPC reports an error" text="`,
			"flanneld: the end",
		}},
		{"-v=3", []string{"", "", "", "", "", "", `] "Level 1"`, `] "Level 3"`, "the end"}},
		{"-v=1", []string{"", "", "", "", "", "", `] "Level 1"`, "the end"}},
		{"--vmodule=logging_test=3", []string{"", "", "", "", "", "", `] "Level 1"`, `] "Level 3"`, "the end"}},
		{"--bogus", []string{`flanneld: unknown flag "--bogus": flanneld --help lists the flags`}},
	} {
		got := logged(t, "log", strings.Fields(tt.flags)...)
		if len(got) != len(tt.want) {
			t.Errorf("%s: %d lines, want %d:\n%s", tt.flags, len(got), len(tt.want), strings.Join(got, "\n"))
			continue
		}
		for i, want := range tt.want {
			if !strings.Contains(got[i], want) {
				t.Errorf("%s: %s\nwant: %s", tt.flags, got[i], want)
			}
			if strings.Contains(tt.flags, "json") {
				checkJSON(t, got[i])
			}
		}
	}
	t.Setenv("FLANNELD_LOG_FORMAT", "json")
	for _, line := range logged(t, "log", "--bogus") {
		checkJSON(t, line)
	}
	if got := logged(t, "log", "status", "--bogus"); strings.HasPrefix(got[0], "{") {
		t.Errorf("a command is for people, and says %s", got)
	}
}

// checkJSON wants a line to be one object that says when, how bad and what.
func checkJSON(t *testing.T, line string) {
	t.Helper()
	var o struct {
		Time       time.Time
		Level, Msg string
	}
	if err := json.Unmarshal([]byte(line), &o); err != nil || o.Time.IsZero() || o.Level == "" || o.Msg == "" {
		t.Errorf("it is no line of the log: %v: %s", err, line)
	}
}

// TestDaemonLogsJSON runs daemons in the lab: nothing but objects comes out of the
// one, and more of them the higher its level is.
func TestDaemonLogsJSON(t *testing.T) {
	l := lab.New(t)
	l.Host("hdss7-12", "10.4.7.12/24")
	l.Etcd().Set("/coreos.com/network/config", `{"Network":"172.7.0.0/16","Backend":{"Type":"host-gw"}}`)
	lines := map[string]int{}
	for level, host := range map[string]*lab.Host{"0": l.Host("hdss7-21", "10.4.7.21/24"), "3": l.Host("hdss7-22", "10.4.7.22/24")} {
		d := host.Flanneld("--log-format=json", "-v="+level, "--ip-masq")
		d.WaitReady()
		if out, err := host.Command(lab.Binary(t), "status").CombinedOutput(); err != nil {
			t.Errorf("status: %v: %s", err, out)
		}
		second := host.Flanneld("--log-format=json") // ends with an error
		if code := second.Wait(time.Minute); code != cli.Failed {
			t.Errorf("a second one ends with %d", code)
		}
		d.Stop()
		for _, log := range []string{d.Log(), second.Log()} {
			for line := range strings.Lines(log) {
				checkJSON(t, line)
				lines[level]++
			}
		}
	}
	if lines["3"] <= lines["0"] {
		t.Errorf("lines by level: %v", lines)
	}
}
