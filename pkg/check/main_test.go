package check

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"

	"flanneld/internal/lab"
	"flanneld/pkg/status"
)

// frozenEnv makes this test binary a daemon that is stopped.
const frozenEnv = "FLANNELD_TEST_FROZEN"

func TestMain(m *testing.M) {
	if os.Getenv(frozenEnv) != "" {
		if _, err := net.Listen("unix", string(status.SocketOf(status.DefaultPrefix))); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		select {}
	}
	if prefix := os.Getenv(routerEnv); prefix != "" {
		if err := advertise(netip.MustParsePrefix(prefix)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	lab.Main(m) // the readers read a network namespace of the test's own
}
