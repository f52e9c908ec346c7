package e2e

import (
	"strings"
	"testing"
	"time"
)

// losesNothing runs what under pings from the peer's container to docker's, and
// sees that docker has not noticed.
func (s *systemd) losesNothing(t *testing.T, moment string, what func()) {
	t.Helper()
	docker := s.property("docker", "MainPID")
	p := s.box.PingEvery(50*time.Millisecond, s.c1())
	what()
	time.Sleep(500 * time.Millisecond)
	stats := p.Stop()
	t.Logf("%s: %v", moment, stats)
	if stats.Lost > 0 {
		t.Errorf("%s: %v", moment, stats)
	}
	if got := s.property("docker", "MainPID"); got != docker || s.state("docker") != "active" {
		t.Errorf("%s: docker, once process %s, is %s and %s", moment, docker, s.state("docker"), got)
	}
	if got := s.sh("docker inspect --format '{{.State.Running}} {{.RestartCount}}' c1"); got != "true 0" {
		t.Errorf("%s: the container: %s", moment, got)
	}
}

func (s *systemd) stopAndStart(t *testing.T) {
	s.losesNothing(t, "stop", func() {
		start := time.Now()
		s.sh("systemctl stop flanneld")
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("stop took %v", took)
		}
		s.awaitFlannelds(0)
		if got := s.property("flanneld", "Result") + " " + s.state("flanneld"); got != "success inactive" {
			t.Errorf("after stop flanneld is %s", got)
		}
		if routes := s.Run("ip", "route"); !strings.Contains(routes, "172.7.22.0/24 via 10.4.7.22 dev ens33") {
			t.Errorf("after stop, the routes:\n%s", routes)
		}
		time.Sleep(time.Second)
	})
	s.losesNothing(t, "start", func() {
		// Start returns when the subnet is known, and dockerd's options are.
		s.sh("rm /var/lib/flannel/subnet.env /run/flannel/docker_opts.env && systemctl start flanneld")
		if env := s.read("/var/lib/flannel/subnet.env"); env != strings.Replace(subnetEnv, "false", "true", 1) {
			t.Errorf("when start returned, subnet.env was\n%s", env)
		}
		if got := s.read("/run/flannel/docker_opts.env"); !strings.Contains(got, "--bip=172.7.21.1/24") {
			t.Errorf("when start returned, docker_opts.env was\n%s", got)
		}
		if got := s.state("flanneld"); got != "active" {
			t.Errorf("when start returned, flanneld was %s", got)
		}
	})
}

func (s *systemd) restartAndKill(t *testing.T) {
	for _, command := range []string{"systemctl restart flanneld", "systemctl kill -s KILL flanneld", "systemctl kill -s QUIT flanneld"} {
		before := s.property("flanneld", "MainPID")
		s.losesNothing(t, command, func() {
			s.sh(command)
			s.awaitAnother(t, before, "active")
		})
	}
}
