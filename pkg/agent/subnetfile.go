package agent

import (
	"time"

	"k8s.io/klog/v2"

	"flanneld/pkg/condition"
	"flanneld/pkg/subnet"
)

// fileRepairs notice that another program undoes what is written to the subnet file.
// The first repairs come at once; when they do not end, ever later.
type fileRepairs struct {
	env     subnet.Env // as written
	repairs int        // in a row
	last    time.Time  // of them
}

const (
	fileRepairsAtOnce = 10
	firstFileBackoff  = 200 * time.Millisecond
	fileQuiet         = 5 * time.Second // so long without a repair, beyond the backoff, ends it
)

func (r *fileRepairs) contested() bool { return r.repairs > fileRepairsAtOnce }

func (r *fileRepairs) backoff() time.Duration {
	if !r.contested() {
		return 0
	}
	return min(firstFileBackoff<<min(r.repairs-fileRepairsAtOnce-1, 10), retryLongest)
}

// left is how long the next repair has to wait.
func (r *fileRepairs) left(now time.Time) time.Duration { return r.backoff() - now.Sub(r.last) }

// record notes what became of a look at the file, and returns when to look again.
func (r *fileRepairs) record(env subnet.Env, wrote bool, now time.Time) time.Duration {
	quiet := r.backoff() + fileQuiet
	switch {
	case env != r.env:
		*r = fileRepairs{env: env}
	case wrote && now.Sub(r.last) > quiet:
		r.repairs, r.last = 1, now
	case wrote:
		r.repairs, r.last = r.repairs+1, now
	case now.Sub(r.last) > quiet:
		r.repairs = 0
	}
	switch {
	case !r.contested():
		return resync
	case wrote:
		return r.backoff()
	}
	return quiet - now.Sub(r.last) + time.Millisecond // then it is over
}

// writeFile writes the subnet file, or puts it right, unless that has to wait.
func (a *Agent) writeFile(own subnet.Lease, now time.Time) time.Duration {
	env := subnet.Env{
		Network: a.current.config.Network, Subnet: own.Subnet, MTU: a.current.backend.MTU(), IPMasq: a.IPMasq,
	}
	if left := a.file.left(now); left > 0 && env == a.file.env {
		return left
	}
	wrote, err := subnet.WriteEnv(a.SubnetFile, env)
	if err != nil {
		return a.writing.Failed(err)
	}
	a.writing.Succeeded()
	again := a.file.record(env, wrote, now)
	switch {
	case wrote && a.file.repairs == 0:
		klog.InfoS("Wrote the subnet file", "file", a.SubnetFile, "subnet", env.Subnet, "mtu", env.MTU)
	case wrote && a.file.repairs == 1:
		klog.InfoS("Put the subnet file right, which was changed or deleted", "file", a.SubnetFile, "subnet", env.Subnet)
	}
	a.Conditions.Track(condition.Condition{
		Code: condition.SubnetFileContested,
		Message: "another program changes flanneld's lines in " + a.SubnetFile + " or deletes it, again and again: " +
			"find it and let it leave them alone, as its own lines may stay beside; until then repairs come ever later, " +
			"up to a minute",
	}, a.file.contested())
	return again
}
