package etcdconn

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	longestFile = 4 << 20         // bytes, far more than a bundle of authorities has
	readTime    = 5 * time.Second // for who writes to a pipe
)

// ReadFile reads a file that proves who this host is, or who etcd is. What is named by mistake
// holds nobody up: a pipe may take five seconds, and is empty where nobody writes to it; a
// file may have 4 MiB.
func ReadFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	_ = f.SetReadDeadline(time.Now().Add(readTime)) // fails where nothing is waited for
	content, err := io.ReadAll(io.LimitReader(f, longestFile+1))
	if err != nil {
		return nil, err
	}
	if len(content) > longestFile {
		return nil, fmt.Errorf("%s is longer than 4 MiB: is it the right file?", path)
	}
	return content, nil
}
