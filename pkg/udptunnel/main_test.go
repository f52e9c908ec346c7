package udptunnel_test

import (
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"flanneld/internal/lab"
	"flanneld/pkg/udptunnel"
)

// childEnv makes this program a tunnel's process, as the daemon is one: "flannel0
// 10.4.7.21:8285 10.1.5.0 10.1.6.0/24=10.4.7.22:8285 …", with the address that ICMP
// errors come from.
const childEnv = "FLANNELD_UDPTUNNEL"

func TestMain(m *testing.M) {
	if line := os.Getenv(childEnv); line != "" {
		if err := child(strings.Fields(line)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	lab.Main(m)
}

// child carries packets until it gets SIGTERM, and then prints its counters.
func child(words []string) error {
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	t, err := udptunnel.Open(udptunnel.Options{Name: words[0], Local: netip.MustParseAddrPort(words[1])})
	if err != nil {
		return err
	}
	t.SetSource(netip.MustParseAddr(words[2]))
	var routes []udptunnel.Route
	for _, w := range words[3:] {
		dst, to, _ := strings.Cut(w, "=")
		routes = append(routes, udptunnel.Route{Dst: netip.MustParsePrefix(dst), To: netip.MustParseAddrPort(to)})
	}
	if err := t.Set(routes); err != nil {
		return err
	}
	fmt.Println("ready")
	select {
	case <-end:
	case <-t.Failed():
		return t.Err()
	}
	started := time.Now()
	err = t.Close()
	fmt.Printf("%+v, closed in %v\n", t.Stats(), time.Since(started))
	return err
}
