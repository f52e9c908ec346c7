package iptables

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/inet"
)

// programs writes an iptables of shell scripts.
func programs(t *testing.T, iptables, save, restore string) *Writer {
	dir := t.TempDir()
	for name, script := range map[string]string{"iptables": iptables, "iptables-save": save, "iptables-restore": restore} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	w, err := New(inet.IPv4)
	if err != nil {
		t.Fatal(err)
	}
	w.found.timeout = 10 * time.Second
	return w
}

const (
	version = "[ $1 = --version ] && { echo 'iptables v1.8.9 (legacy)'; exit; }; "
	nothing = "printf '*nat\\nCOMMIT\\n*filter\\nCOMMIT\\n'"
)

// TestPrograms has programs that do not do what they should.
func TestPrograms(t *testing.T) {
	for _, tt := range []struct {
		name                    string
		iptables, save, restore string
		says                    string // the second pass
		writes                  int    // in three passes
	}{
		{"a write without effect", version + "exit 1", nothing, "grep -q FORWARD && echo >>$0.log; true", "iptables-restore reported success, but the rules are not there: 2 of 2", 3},
		{"nothing is shown", version + "exit 0", "true", "grep -q FORWARD && echo >>$0.log; true", "iptables-save does not show rules that iptables -C finds", 1},
		{"it fails", version, nothing, "echo no; exit 3", "exit status 3", 0},
		{"its version fails", "exit 4", nothing, "true", "exit status 4", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := programs(t, tt.iptables, tt.save, tt.restore)
			w.Apply(context.Background(), onlyForward, false)
			for range 2 {
				out := w.Apply(context.Background(), onlyForward, false)
				if !out.Failed() {
					t.Fatalf("outcomes are %v", out.Outcomes)
				}
				for _, o := range out.Outcomes {
					if o.Err != nil && !strings.Contains(o.Err.Error(), tt.says) {
						t.Errorf("%s: %v", o.Subject, o.Err)
					}
				}
			}
			log, err := os.ReadFile(w.found.restorePath + ".log")
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			if n := len(log); n != tt.writes {
				t.Errorf("%d writes, want %d", n, tt.writes)
			}
		})
	}
}

// TestOthersInFrontAgain has another program put a rule in front of ours right after they were
// moved: the same write is due again, and that is no sign of a program that lies.
func TestOthersInFrontAgain(t *testing.T) {
	const ours = "-A FORWARD -s 172.7.0.0/16 -m comment --comment flanneld -j ACCEPT\n-A FORWARD -d 172.7.0.0/16 -m comment --comment flanneld -j ACCEPT\n"
	w := programs(t, version+"exit 0", "cat $0.rules", "grep -q FORWARD && echo >>$0.log; true")
	chain := func(before string) {
		text := "*filter\n:FORWARD ACCEPT [0:0]\n" + before + ours + "COMMIT\n"
		if err := os.WriteFile(w.found.savePath+".rules", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for n, before := range []string{"-A FORWARD -j DROP\n", "-A FORWARD -j REJECT --reject-with icmp-port-unreachable\n", "-A FORWARD -p tcp -j DROP\n-A FORWARD -j DROP\n"} {
		chain(before)
		out := w.Apply(context.Background(), onlyForward, false)
		if out.Failed() {
			t.Errorf("pass %d: %v", n, out.Outcomes)
		}
		if log, err := os.ReadFile(w.found.restorePath + ".log"); err != nil || len(log) != n+1 {
			t.Errorf("pass %d: %d writes, %v", n, len(log), err)
		}
	}
	if out := w.Apply(context.Background(), onlyForward, false); !out.Failed() {
		t.Errorf("as it was: %v", out.Outcomes)
	}
}

// TestFindingIPTablesRunsNothing: one that hangs is told of while it is waited for, is
// killed, and is asked again.
func TestFindingIPTablesRunsNothing(t *testing.T) {
	w := programs(t, "exec sleep 60", nothing, "true")
	began, ended := time.Now(), make(chan rules.Result)
	go func() { ended <- w.Apply(context.Background(), onlyForward, false) }()
	for {
		if program, lasted := w.WaitsFor(); lasted > 100*time.Millisecond {
			if program != w.found.path {
				t.Errorf("it waits for %q", program)
			}
			break
		}
		if time.Since(began) > 10*time.Second {
			t.Fatal("nobody tells that iptables hangs")
		}
		time.Sleep(10 * time.Millisecond)
	}
	out := <-ended
	if !errors.As(out.Outcomes[0].Err, &rules.NoAnswer{}) {
		t.Errorf("outcomes are %v", out.Outcomes)
	}
	if err := os.WriteFile(w.found.path, []byte("#!/bin/sh\n"+version+"exit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if out := w.Apply(context.Background(), onlyForward, false); out.Failed() {
		t.Errorf("once it answers: %v", out.Outcomes)
	}
}
