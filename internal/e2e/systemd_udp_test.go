package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"flanneld/internal/lab"
)

// restartsOfUDP: in mode udp nobody carries packets while flanneld restarts. They wait in queues
// that systemd keeps.
func (s *systemd) restartsOfUDP(t *testing.T) {
	s.follows(t, udpMode, "dev flannel0 proto 77") // first to each peer, and once all have changed, to all
	for _, command := range []string{"systemctl restart flanneld", "systemctl restart flanneld", "systemctl kill -s KILL flanneld"} {
		before := s.property("flanneld", "MainPID")
		pings := s.box.PingEvery(time.Millisecond, s.c1())
		s.sh(command)
		s.awaitAnother(t, before, "active")
		s.box.Reach(s.c1(), soon)
		time.Sleep(500 * time.Millisecond)
		stats := pings.Stop()
		t.Logf("%s: pings each millisecond: %v", command, stats)
		if kept := s.property("flanneld", "NFileDescriptorStore"); kept != "2" {
			t.Errorf("after %s, systemd keeps %s descriptors:\n%s", command, kept, s.log("flanneld"))
		}
	}
	// The mode changes while nobody runs: what was kept for the next start is let go.
	before := s.property("flanneld", "MainPID")
	s.sh("systemctl kill -s KILL flanneld")
	s.etcd.Set(configKey, hostGW)
	s.awaitAnother(t, before, "active")
	s.follows(t, hostGW, "172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77")
	lab.Eventually(t, soon, "the end of what was kept", func() error {
		if kept := s.property("flanneld", "NFileDescriptorStore"); kept != "0" {
			return fmt.Errorf("systemd keeps %s descriptors", kept)
		}
		return nil
	})
	s.box.Reach(s.c1(), soon)
}

// follows has both hosts follow a config, until this one has a route.
func (s *systemd) follows(t *testing.T, config, route string) {
	t.Helper()
	s.etcd.Set(configKey, config)
	lab.Eventually(t, soon, "the route "+route, func() error {
		if routes := s.Run("ip", "-4", "route"); !strings.Contains(routes, route) {
			return errors.New(routes)
		}
		return nil
	})
	s.box.Reach(s.c1(), soon)
}
