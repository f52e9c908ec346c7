package check

import (
	"slices"
	"strings"
	"testing"

	"flanneld/pkg/condition"
	"flanneld/pkg/status"
)

// TestStepsDeclareWhatThereIs: what a step says of another one, or of the
// daemon's conditions, must exist; and what keeps the daemon from being ready is
// some step's to explain.
func TestStepsDeclareWhatThereIs(t *testing.T) {
	var before []string
	// Nothing explains the first, and Rest tells of the second.
	covered := []condition.Code{condition.Starting, condition.FirewallNotApplied}
	look := func(name string, after []prerequisite, covers []condition.Code) {
		for _, c := range after {
			if !slices.Contains(before, c.step) || c.text == "" {
				t.Errorf("%s comes after %q, which does not come before it", name, c.step)
			}
		}
		for _, c := range covers {
			if c.About() == "" {
				t.Errorf("%s covers the unknown condition %q", name, c)
			}
		}
		before, covered = append(before, name), append(covered, covers...)
	}
	for _, s := range steps() {
		look(s.name, s.after, s.covers)
	}
	for _, s := range pathSteps() {
		var after []prerequisite
		if s.after != nil {
			after = s.after(status.Peer{Mode: status.Tunnel})
		}
		look(s.name, after, s.covers)
	}
	for _, c := range condition.Codes() {
		if c.Unready() && !slices.Contains(covered, c) {
			t.Errorf("no step tells of %s", c)
		}
	}
}

// TestOneCauseIsOneFault: what follows from a fault is skipped, and what the
// daemon says of it is not said again.
func TestOneCauseIsOneFault(t *testing.T) {
	for _, tt := range []struct {
		name    string
		spoil   func(*Facts)
		fault   string
		skipped string
	}{
		{"an interface that is down", func(f *Facts) {
			f.Links[0].Up = false
			is(f, condition.InterfaceDown, "")
			is(f, condition.EtcdUnreadable, "no route to host")
			is(f, condition.EtcdNotCurrent, "no route to host")
			f.Status.Daemon.Ready, f.Status.Daemon.Reason = false, "external interface ens33 is down"
		}, "interface", "etcd"},
		{"a device that flanneld may not change", func(f *Facts) {
			f.Links[1].Up, f.Routes = false, f.Routes[1:]
			denied(f, condition.KernelNotApplied, "operation not permitted")
		}, "device", "route"},
		{"a subnet file of somebody else", func(f *Facts) {
			f.Env.Subnet = far
			f.Links[2].Addrs = addr("172.17.0.1/16")
		}, "subnet.env", "docker"},
	} {
		f := healthy()
		tt.spoil(&f)
		for _, x := range all(f) {
			if (x.Level == Fault) != (x.Step == tt.fault) || x.Step == tt.skipped && (x.Level != Skipped || !strings.HasPrefix(x.Text, "not before ")) {
				t.Errorf("%s: %+v", tt.name, x)
			}
		}
	}
}
