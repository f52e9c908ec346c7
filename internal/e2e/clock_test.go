//go:build amd64

package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"flanneld/internal/lab"
)

const day = 24 * time.Hour

// sleeper is a host whose clock is set, and which sleeps, in a cluster of three.
type sleeper struct {
	*cluster
	*node
}

// TestClock sets daemons' clocks, and lets one sleep as a laptop does: when it
// wakes, the clock on the wall has gone on without it. (Its monotonic clock, in
// truth, has gone on for the test's seconds.)
func TestClock(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]lab.EtcdOptions{"v2": {}, "v3": {NoV2: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &cluster{Lab: lab.New(t), t: t}
			c.etcd = c.EtcdOn(options, c.Host("hdss7-12", "10.4.7.12/24"))
			c.etcd.Set(configKey, hostGW)
			for _, name := range []string{"hdss7-21", "hdss7-22", "hdss7-23"} {
				n := c.join(name)
				n.daemon.WaitReady()
				n.box = n.Container("c1")
			}
			c.connected(soon)
			s := &sleeper{c, c.hosts[0]}
			c.losesNothing("clocks are set", s.clocksAreSet)
			if name == "v3" && len(c.etcd.Grants()) != len(c.hosts) {
				t.Errorf("grants: %v", c.etcd.Grants())
			}
			c.losesNothing("a sleep beyond the lease's end", s.wakesInTime)
			s.wakesForgotten()
			s.wakesDispossessed()
		})
	}
}

// clocksAreSet waits for the look at the clock that is due once a minute.
func (s *sleeper) clocksAreSet() {
	back, still := s.hosts[1], s.hosts[2]
	began, before := time.Now(), s.daemon.CPUTime()
	s.daemon.StepClock(2 * day)
	back.daemon.StepClock(-3 * day)
	s.renewed(s.node, 1, 2*day, 90*time.Second)
	s.renewed(back, 1, -3*day, 90*time.Second)
	if cpu := s.daemon.CPUTime() - before; cpu > time.Since(began)/50 { // as in TestEtcdOutage
		s.t.Errorf("%v of CPU time in %v", cpu, time.Since(began))
	}
	s.daemon.StepClock(-3 * day)
	s.etcd.Set(configKey, hostGW) // lets it look at once
	s.renewed(s.node, 2, -day, soon)
	s.renewed(back, 1, -3*day, soon)
	if ends := still.renewals(); len(ends) > 0 {
		s.t.Errorf("%s, whose clock is right, renewed its lease until %v", still, ends)
	}
	s.everybodyHasTheirs("clocks were set")
}

// wakesInTime is a sleep in which the lease ends; no peer has missed it yet.
func (s *sleeper) wakesInTime() {
	s.daemon.Freeze()
	s.etcd.SetTTL(s.leaseKey(), s.etcd.Get(s.leaseKey()).Value, 2*time.Second)
	lab.Eventually(s.t, soon, "the lease's end", func() error {
		if lease := s.etcd.Get(s.leaseKey()); lease != nil {
			return fmt.Errorf("%+v", lease)
		}
		return nil
	})
	s.daemon.StepClock(8 * time.Hour)
	s.daemon.Thaw()
	s.everybodyHasTheirs("a sleep beyond the lease's end")
	if left := s.etcd.Get(s.leaseKey()).TTL; left < 23*60*60 {
		s.t.Errorf("the lease ends after %d s", left)
	}
}

// wakesForgotten is a sleep so long that the peers have given the host up.
func (s *sleeper) wakesForgotten() {
	s.daemon.Freeze()
	s.etcd.Delete(s.leaseKey())
	lab.Eventually(s.t, 2*soon, "the end of the routes to "+s.Name, func() error {
		for _, peer := range s.hosts[1:] {
			if routes := peer.routes(); strings.Contains(routes, s.subnet) {
				return fmt.Errorf("%s still has\n%s", peer, routes)
			}
		}
		return nil
	})
	s.daemon.StepClock(3 * day)
	s.daemon.Thaw()
	s.everybodyHasTheirs("a sleep of days")
}

// wakesDispossessed is a sleep in which another host took the lease.
func (s *sleeper) wakesDispossessed() {
	const others = `{"PublicIP":"10.4.7.99","BackendType":"host-gw"}`
	s.daemon.Freeze()
	s.etcd.Set(s.leaseKey(), others)
	s.daemon.StepClock(day)
	s.daemon.Thaw()
	s.daemon.WaitLog(`Lease belongs to another host now: taking another subnet" subnet="172.7.21.0/24" publicIP="10.4.7.99"`)
	lab.Eventually(s.t, soon, "another lease", func() error {
		held := s.etcd.Keys(leases)
		if len(held) != len(s.hosts)+1 || held[s.leaseKey()] != others {
			return fmt.Errorf("%v", held)
		}
		return nil
	})
	lab.Eventually(s.t, soon, "another subnet", func() error {
		if env := read(s.t, s.SubnetFile()); strings.Contains(env, "=172.7.21.1/24") {
			return fmt.Errorf("%s", env)
		}
		return nil
	})
}

var renewal = regexp.MustCompile(`"Renewed the lease" subnet="\S+" expires="(\S+)"\n`)

// renewals are the ends of the host's lease as it tells them when it renews it.
func (n *node) renewals() (ends []string) {
	for _, line := range renewal.FindAllStringSubmatch(n.daemon.Log(), -1) {
		ends = append(ends, line[1])
	}
	return ends
}

// renewed waits for a host to have renewed its lease so many times, and no more,
// with a clock that is ahead by so much.
func (s *sleeper) renewed(n *node, times int, ahead, within time.Duration) {
	s.t.Helper()
	lab.Eventually(s.t, within, fmt.Sprintf("%d renewals by %s", times, n), func() error {
		if ends := n.renewals(); len(ends) < times {
			return fmt.Errorf("until %v", ends)
		}
		return nil
	})
	ends := n.renewals()
	end, err := time.Parse(time.RFC3339, ends[len(ends)-1])
	if wrong := time.Until(end) - day - ahead; len(ends) != times || err != nil || wrong.Abs() > 10*time.Minute {
		s.t.Errorf("%s renewed its lease until %v, want %d renewals, a day and %v from %v on (%v)", n, ends, times, ahead, time.Now(), err)
	}
}
