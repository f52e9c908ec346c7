package e2e

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"flanneld/internal/lab"
)

// TestLossTable is the promise to operators, fault by fault.
func TestLossTable(t *testing.T) {
	t.Parallel()
	lossTable(t, lab.Stacks[0])
}

// TestLossTableOfModes is the part of it that asks something of the way that packets take; LOSSTABLE=all: all of it.
func TestLossTableOfModes(t *testing.T) {
	for _, m := range []mode{byWireGuard, byUDP} {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			lossTableOf(t, lab.Stacks[0], m)
		})
	}
}

func lossTable(t *testing.T, s lab.Stack) { lossTableOf(t, s, byHostGW) }

// What a row of the table asks something of.
const (
	ofWay  = iota // the way that packets take
	ofStop        // too: what the daemon carries itself waits or is lost while it does not run
	ofRest        // nothing of that
)

func lossTableOf(t *testing.T, s lab.Stack, m mode) {
	config := m.of(s)
	c := startOnThree(t, s, config, 3)
	n := c.hosts[0]
	table := []struct {
		fault string
		asks  int
		do    func()
	}{
		{"daemon restarted", ofStop, func() { n.daemon.Restart(); n.daemon.WaitReady() }},
		{"daemon killed and restarted", ofStop, func() { n.daemon.Kill(); n.daemon.Restart(); n.daemon.WaitReady() }},
		{"an etcd member killed", ofRest, func() { c.etcd.Members[0].Kill(); time.Sleep(3 * time.Second); c.etcd.Members[0].Start() }},
		{"etcd away for 10 s", ofRest, func() { c.etcd.Stop(); time.Sleep(10 * time.Second); c.etcd.Start() }},
		{"etcd wiped", ofWay, func() {
			c.etcd.Wipe()
			time.Sleep(time.Second)
			c.etcd.Set(configKey, config)
		}},
		{"daemon restarted over a wiped etcd", ofStop, func() {
			n.daemon.Stop()
			c.etcd.Wipe()
			n.daemon.Restart()
			time.Sleep(3 * time.Second)
			c.etcd.Set(configKey, config)
			n.daemon.WaitReady()
		}},
		{"history overrun by 2,000 events", ofRest, func() { overrun(c, 250) }},
		{"own lease deleted", ofWay, func() { c.etcd.Delete(n.leaseKey()) }},
		{"daemon frozen for 5 s", ofStop, func() { n.daemon.Freeze(); time.Sleep(5 * time.Second); n.daemon.Thaw() }},
		{"an etcd member hangs as a lease comes", ofRest, func() { c.memberHangs(0) }},
		{"an etcd member talks nonsense for 3 s", ofRest, func() { c.memberTalksNonsense(1, 3*time.Second) }},
		{"config of the hosts' own network", ofWay, func() { c.underlayConfig(3 * time.Second) }},
		{"30 configs in 3 s", ofWay, c.configStorm},
		{"iptables hangs for 5 s", ofRest, func() { n.iptablesHangs(5 * time.Second) }},
		{"1,200 idle connections", ofRest, func() { n.flood(c, 3*time.Second) }},
	}
	var report strings.Builder
	fmt.Fprintf(&report, "\n%-38s %6s %6s  %-8s %s\n", "fault", "sent", "lost", "gap", "everybody has theirs after")
	for _, row := range table {
		if row.asks == ofRest && m != byHostGW && os.Getenv("LOSSTABLE") != "all" {
			continue
		}
		var took time.Duration
		stats := c.underPings(func() {
			began := time.Now()
			row.do()
			c.everybodyHasTheirs(row.fault)
			took = time.Since(began)
		})
		sum := total(stats)
		fmt.Fprintf(&report, "%-38s %6d %6d  %-8v %v\n", row.fault, sum.Sent, sum.Lost, sum.Gap.Round(time.Millisecond), took.Round(10*time.Millisecond))
		if sum.Lost > 0 && !(m.carried() && row.asks == ofStop) {
			t.Errorf("%s, which ended %v: %v\n%s", row.fault, time.Now(), sum, strings.Join(losers(stats), "\n"))
		}
	}
	t.Log(report.String())

	// The lease is taken by somebody else: the host gives it up.
	others := leaseOf(s, "host-gw", 99)
	c.etcd.Set(n.leaseKey(), others)
	began := time.Now()
	lab.Eventually(t, soon, "another lease", func() error {
		env := read(t, n.SubnetFile())
		for _, bridge := range s.Bridges(21) {
			if strings.Contains(env, bridge) {
				return fmt.Errorf("%s", env)
			}
		}
		return nil
	})
	t.Logf("own lease taken by another host: another one after %v", time.Since(began).Round(time.Millisecond))
	if v := c.etcd.Get(n.leaseKey()).Value; v != others {
		t.Errorf("the other host's key became %s", v)
	}
	if n.daemon.Signal(syscall.SIGTERM); n.daemon.Wait(soon) != 0 {
		t.Error("exit code is not 0")
	}
}
