package check

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What stands in the place of a key or a certificate may be nothing that can be read to its end.
func TestReadNoEndlessFile(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{pipe, "/dev/zero", t.TempDir()} {
		read := make(chan error, 1)
		go func() {
			_, err := (&Facts{}).readFile(file)
			read <- err
		}()
		select {
		case err := <-read:
			if err == nil || !strings.Contains(err.Error(), "read "+file+": it is no regular file") {
				t.Errorf("%s: %v", file, err)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s is read for ever", file)
		}
	}
}
