package wgdevice_test

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
	"k8s.io/klog/v2"

	"flanneld/pkg/wgdevice"
)

func TestKeyIsMadeOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "flannel", "wg", "key")
	var wait sync.WaitGroup
	secrets := make([]wgdevice.Secret, 8)
	for i := range secrets {
		wait.Go(func() { secrets[i], _ = wgdevice.LoadKey(path) })
	}
	wait.Wait()
	for _, s := range secrets {
		if s != secrets[0] || s.IsZero() {
			t.Fatal("several keys were made, or none")
		}
	}
	wantMode(t, path, 0o600)
	wantMode(t, filepath.Dir(path), os.ModeDir|0o755)
	wantMode(t, filepath.Dir(filepath.Dir(path)), os.ModeDir|0o755)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	key, err := wgtypes.ParseKey(strings.TrimSuffix(string(content), "\n"))
	if err != nil || wgdevice.Secret(key) != secrets[0] {
		t.Errorf("the file is no key as wg genkey prints it: %v", err)
	}
	wantFiles(t, filepath.Dir(path), "key")
}

func TestRotate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wg", "key")
	for range 2 { // also where there is none
		before, _ := os.ReadFile(path)
		public, err := wgdevice.Rotate(path)
		if err != nil {
			t.Fatal(err)
		}
		s, err := wgdevice.LoadKey(path)
		after, _ := os.ReadFile(path)
		if err != nil || s.Public() != public || string(after) == string(before) {
			t.Errorf("the new key is %v, not %v: %v", s.Public(), public, err)
		}
	}
	wantMode(t, path, 0o600)
	wantFiles(t, filepath.Dir(path), "key")
}

func TestReadKey(t *testing.T) {
	key, err := wgtypes.GeneratePrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	loose := key
	loose[0] |= 7
	for name, c := range map[string]struct {
		content string
		mode    os.FileMode
		bad     string // what the error says
		after   os.FileMode
	}{
		"wg genkey":            {content: key.String() + "\n", mode: 0o600, after: 0o600},
		"flannel":              {content: key.String(), mode: 0o400, after: 0o400},
		"readable by others":   {content: key.String(), mode: 0o644, after: 0o600},
		"with bits of no key":  {content: loose.String(), mode: 0o600, after: 0o600},
		"with spaces":          {content: " " + key.String() + "\r\n\n", mode: 0o600, after: 0o600},
		"empty":                {mode: 0o600, bad: "remove the file", after: 0o600},
		"garbage":              {content: "garbage", mode: 0o600, bad: "put the right one there", after: 0o600},
		"garbage for everyone": {content: "garbage", mode: 0o666, bad: "remove the file", after: 0o600},
		"two keys":             {content: key.String() + "\n" + key.String(), mode: 0o600, bad: "no WireGuard key", after: 0o600},
		"zeros":                {content: wgtypes.Key{}.String(), mode: 0o600, bad: "all zeros", after: 0o600},
		"very long":            {content: key.String() + strings.Repeat("\n", 10000) + "x", mode: 0o600, bad: "no WireGuard key", after: 0o600},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(path, []byte(c.content), c.mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, c.mode); err != nil { // whatever the umask
				t.Fatal(err)
			}
			s, err := wgdevice.LoadKey(path)
			if c.bad == "" && (err != nil || s != wgdevice.Secret(key)) {
				t.Errorf("not read: %v", err)
			}
			if c.bad != "" && (err == nil || !strings.Contains(err.Error(), c.bad) || !s.IsZero()) {
				t.Errorf("the error is %v", err)
			}
			if err != nil && strings.Contains(err.Error(), key.String()[:10]) {
				t.Errorf("the error shows the key: %v", err)
			}
			wantMode(t, path, c.after)
			if after, _ := os.ReadFile(path); string(after) != c.content {
				t.Errorf("the file has become %q", after)
			}
		})
	}
	t.Run("a folder", func(t *testing.T) {
		if _, err := wgdevice.LoadKey(t.TempDir()); err == nil {
			t.Error("a folder was read")
		}
	})
	t.Run("a pipe", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "key")
		if err := unix.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		read := make(chan error, 1)
		go func() {
			_, err := wgdevice.LoadKey(path)
			read <- err
		}()
		select {
		case err := <-read:
			if err == nil || !strings.Contains(err.Error(), "no regular file") {
				t.Errorf("the error is %v", err)
			}
		case <-time.After(time.Minute):
			t.Error("a pipe is waited for")
			if f, err := os.OpenFile(path, os.O_RDWR, 0); err == nil { // which lets it go
				f.Close()
				<-read
			}
		}
	})
	t.Run("a file for a folder", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := wgdevice.LoadKey(filepath.Join(path, "key")); err == nil {
			t.Error("a file has a key in it")
		}
		if _, err := wgdevice.Rotate(filepath.Join(path, "key")); err == nil {
			t.Error("a file has a key in it")
		}
	})
}

// On a read-only disk, of which this file stands for one, the daemon would say it at each look, and wrongly.
func TestKeyStaysOpenToOthers(t *testing.T) {
	var log strings.Builder
	klog.SetOutputBySeverity("INFO", &log)
	defer klog.SetOutput(io.Discard)
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for of, says := range map[string]bool{path: true, "/proc/self/comm": false} {
		log.Reset()
		_, err := wgdevice.LoadKey(of)
		klog.Flush()
		if err == nil || strings.Contains(log.String(), "only the owner can now") != says {
			t.Errorf("%s: %v, and the log is %q", of, err, log.String())
		}
	}
}

// A key that cannot be written fails each time with the same words: the daemon tries every other second, and
// logs what is new.
func TestKeyIsNotWritten(t *testing.T) {
	taken := t.TempDir() // a folder has the name
	for name, path := range map[string]string{"a folder that takes no files": "/proc/self/key", "a folder": taken} {
		t.Run(name, func(t *testing.T) {
			first, second := "", ""
			for _, text := range []*string{&first, &second} {
				if _, err := wgdevice.Rotate(path); err == nil {
					t.Fatal("the key was written")
				} else {
					*text = err.Error()
				}
			}
			if first != second || !strings.Contains(first, path+": ") {
				t.Errorf("it says %q, and then %q", first, second)
			}
		})
	}
}

func FuzzKeyFile(f *testing.F) {
	f.Add([]byte(wgdevice.NewSecret().Public().String()))
	f.Add([]byte("\n"))
	path := filepath.Join(f.TempDir(), "key")
	f.Fuzz(func(t *testing.T, content []byte) {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := wgdevice.LoadKey(path)
		if (err == nil) == s.IsZero() {
			t.Errorf("%q is a key %v: %v", content, !s.IsZero(), err)
		}
		if after, _ := os.ReadFile(path); string(after) != string(content) {
			t.Errorf("%q has become %q", content, after)
		}
	})
}

func wantMode(t *testing.T, path string, want os.FileMode) {
	t.Helper()
	if info, err := os.Stat(path); err != nil || info.Mode() != want {
		t.Errorf("%s: %v, wanted %v", path, info, want)
	}
}

func wantFiles(t *testing.T, folder string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if err != nil || strings.Join(names, " ") != strings.Join(want, " ") {
		t.Errorf("%s has %v, wanted %v: %v", folder, names, want, err)
	}
}
