package etcdconn

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestReadFile: what is named by mistake neither holds the daemon up nor fills its memory.
func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	large := file("large", "s3cret\n")
	if err := os.Truncate(large, 1<<30); err != nil { // with a hole: it takes no room
		t.Fatal(err)
	}
	silent, held := filepath.Join(dir, "silent"), filepath.Join(dir, "held")
	for _, path := range []string{silent, held} {
		if err := unix.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	writer, err := os.OpenFile(held, os.O_RDWR, 0) // and never closes it
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	r, w, err := os.Pipe() // as a shell's <(command)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	time.AfterFunc(100*time.Millisecond, func() {
		_, _ = w.WriteString("s3cret\n")
		w.Close()
	})
	piped := fmt.Sprintf("/dev/fd/%d", r.Fd())
	for _, tt := range []struct{ path, want, fails string }{
		{path: file("plain", "s3cret\n"), want: "s3cret\n"},
		{path: file("empty", "")},
		{path: piped, want: "s3cret\n"},
		{path: dir, fails: "is a directory"},
		{path: dir + "/none", fails: "no such file"},
		{path: large, fails: "longer than 4 MiB"},
		{path: "/dev/zero", fails: "longer than 4 MiB"},
		{path: silent}, // nobody writes: it is empty
		{path: held, fails: "timeout"},
	} {
		type result struct {
			content []byte
			err     error
		}
		ended := make(chan result, 1)
		go func() {
			content, err := ReadFile(tt.path)
			ended <- result{content, err}
		}()
		select {
		case got := <-ended:
			if string(got.content) != tt.want || (got.err == nil) != (tt.fails == "") ||
				got.err != nil && (!strings.Contains(got.err.Error(), tt.fails) || !strings.Contains(got.err.Error(), tt.path)) {
				t.Errorf("%s: %d bytes, %v", tt.path, len(got.content), got.err)
			}
		case <-time.After(readTime + time.Minute):
			t.Fatalf("%s: it hangs", tt.path)
		}
	}
}
