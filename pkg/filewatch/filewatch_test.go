package filewatch_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"flanneld/pkg/filewatch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestChanges: what is told, and within which time, and what is not.
func TestChanges(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before func(dir string) error // the file is dir/run/flannel/subnet.env
		do     func(dir string) error
		silent bool
	}{
		{name: "deleted", before: file, do: func(d string) error { return os.Remove(d + env) }},
		{name: "edited in place", before: file, do: file},
		{name: "replaced", before: file, do: func(d string) error {
			return errors.Join(os.WriteFile(d+"/run/new", nil, 0o600), os.Rename(d+"/run/new", d+env))
		}},
		{name: "moved away", before: file, do: func(d string) error { return os.Rename(d+env, d+"/run/old") }},
		{name: "its rights", before: file, do: func(d string) error { return os.Chmod(d+env, 0o640) }},
		{name: "made", before: folder, do: file},
		{name: "its folder is made", before: nothing, do: file},
		{name: "a folder above its folder is made", before: func(string) error { return nil }, do: func(d string) error { return errors.Join(folder(d), file(d)) }},
		{name: "its folder is deleted", before: file, do: func(d string) error { return os.RemoveAll(d + "/run/flannel") }},
		{name: "all is deleted", before: file, do: func(d string) error { return os.RemoveAll(d + "/run") }},
		{name: "its folder is moved", before: file, do: func(d string) error { return os.Rename(d+"/run/flannel", d+"/run/x") }},
		{name: "a link in its place", before: folder, do: func(d string) error { return os.Symlink(d+"/elsewhere", d+env) }},
		{name: "the end of a link", before: func(d string) error {
			return errors.Join(folder(d), os.Mkdir(d+"/far", 0o700), os.Symlink("../../far/the.env", d+env))
		}, do: func(d string) error { return os.WriteFile(d+"/far/the.env", nil, 0o600) }},
		{name: "another file", before: file, silent: true, do: func(d string) error { return os.WriteFile(d+"/run/flannel/other", nil, 0o600) }},
		{name: "read", before: file, silent: true, do: func(d string) error { _, err := os.ReadFile(d + env); return err }},
		{name: "half written", before: folder, silent: true, do: func(d string) error {
			f, err := os.Create(d + env)
			if err == nil {
				_, err = f.WriteString("A=")
				time.AfterFunc(time.Minute, func() { _ = f.Close() })
			}
			return err
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := tt.before(dir); err != nil {
				t.Fatal(err)
			}
			w := watch(t, dir+env)
			if err := tt.do(dir); err != nil {
				t.Fatal(err)
			}
			if got := told(w, 300*time.Millisecond); got == tt.silent {
				t.Errorf("told: %t", got)
			}
		})
	}
}

const env = "/run/flannel/subnet.env"

func nothing(d string) error { return os.MkdirAll(d+"/run", 0o700) }
func folder(d string) error  { return os.MkdirAll(d+"/run/flannel", 0o700) }
func file(d string) error    { return errors.Join(folder(d), os.WriteFile(d+env, []byte("A=1\n"), 0o600)) }

// watch starts one, and takes what it says at first.
func watch(t *testing.T, path string) *filewatch.Watch {
	t.Helper()
	w := filewatch.New(path)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	for told(w, 100*time.Millisecond) {
	}
	return w
}

func told(w *filewatch.Watch, within time.Duration) bool {
	select {
	case <-w.Changed():
		return true
	case <-time.After(within):
		return false
	}
}

// TestAgainAndAgain: a folder that goes and comes back is watched each time, and nothing
// is told where nothing happens.
func TestAgainAndAgain(t *testing.T) {
	dir := t.TempDir()
	if err := file(dir); err != nil {
		t.Fatal(err)
	}
	w := watch(t, dir+env)
	for round := range 20 {
		for _, do := range []func() error{
			func() error { return os.RemoveAll(filepath.Dir(dir + env)) },
			func() error { return file(dir) },
			func() error { return os.Remove(dir + env) },
			func() error { return file(dir) },
		} {
			if err := do(); err != nil {
				t.Fatal(err)
			}
			if !told(w, time.Second) {
				t.Fatalf("round %d: nothing is told", round)
			}
			for told(w, 20*time.Millisecond) {
			}
		}
	}
	if told(w, 300*time.Millisecond) {
		t.Error("told of nothing")
	}
}
