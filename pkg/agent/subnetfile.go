package agent

import (
	"time"

	"k8s.io/klog/v2"

	"flanneld/pkg/condition"
	"flanneld/pkg/pace"
	"flanneld/pkg/subnet"
)

// fileRepairs are those of the subnet file, which another program may undo.
type fileRepairs struct {
	pace.Pace
	env subnet.Env // as written
}

const fileRepairsAtOnce = 10

// record notes what became of a look at the file, and returns when to look again.
func (r *fileRepairs) record(env subnet.Env, wrote bool, now time.Time) time.Duration {
	switch {
	case env != r.env, !wrote && r.Over(now):
		*r = fileRepairs{pace.Of(fileRepairsAtOnce), env}
	case wrote:
		r.Pace = r.Repaired(now)
	}
	if !r.Contested() {
		return resync
	}
	return r.Again(now)
}

// writeFile writes the subnet file, or puts it right, unless that has to wait.
func (a *Agent) writeFile(own subnet.Lease, now time.Time) time.Duration {
	env := subnet.Env{MTU: a.current.mtu(), IPMasq: a.IPMasq}
	for i, h := range a.current.halves {
		lease, _ := own.For(h.family)
		if i == 0 {
			env.Network, env.Subnet = h.config.Network, lease.Subnet
		} else {
			env.IPv6Network, env.IPv6Subnet = h.config.Network, lease.Subnet
		}
	}
	if left := a.file.Wait(now); left > 0 && env == a.file.env {
		return left
	}
	wrote, err := subnet.WriteEnv(a.SubnetFile, env)
	if err != nil {
		return a.writing.Failed(err)
	}
	a.writing.Succeeded()
	again := a.file.record(env, wrote, now)
	switch {
	case wrote && a.file.Repairs() == 0:
		klog.InfoS("Wrote the subnet file", "file", a.SubnetFile, "subnet", env.Subnet, "mtu", env.MTU)
	case wrote && a.file.Repairs() == 1:
		klog.InfoS("Put the subnet file right, which was changed or deleted", "file", a.SubnetFile, "subnet", env.Subnet)
		a.Note("put right: " + a.SubnetFile)
	}
	a.Conditions.Track(condition.Condition{
		Code: condition.SubnetFileContested,
		Message: "another program changes flanneld's lines in " + a.SubnetFile + " or deletes it, again and again: " +
			"find it and let it leave them alone, as its own lines may stay beside; until then repairs come ever later, " +
			"up to a minute",
	}, a.file.Contested())
	return again
}
