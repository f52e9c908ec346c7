package check

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"flanneld/pkg/status"
)

// logCure leads to the daemon's own words.
const logCure = "journalctl -u flanneld   # or supervisord's stdout_logfile: it says what flanneld does and why"

func goodDaemon(f Facts) string {
	return fmt.Sprintf("flanneld %s runs, pid %d", f.Status.Daemon.Version, f.Status.Daemon.PID)
}

func findDaemon(f Facts) []Finding {
	switch {
	case errors.Is(f.Daemon, status.ErrNoDaemon):
		return []Finding{fault([]string{"systemctl start flanneld   # or: supervisorctl start, and its program's name"}, "%v", f.Daemon)}
	case f.Status == nil:
		return unknown("%v", f.Daemon)
	}
	return nil
}

func goodEtcd(f Facts) string {
	member := f.Status.Etcd.Member
	if member == "" {
		member = "etcd"
	}
	return member + " answers"
}

func findEtcd(f Facts) []Finding {
	if f.Status == nil {
		return skipped("flanneld does not say where etcd is")
	}
	var out []Finding
	cure := []string{}
	for _, m := range f.Members {
		if m.Err != nil {
			cure = append(cure, fmt.Sprintf("curl -k %s/version   # must answer: %v", m.URL, m.Err))
		}
	}
	if len(cure) == 0 {
		cure = append(cure, logCure)
	}
	if e := f.Status.Etcd; e.Reads != "" {
		out = append(out, fault(cure, "etcd cannot be read: %s", e.Reads))
	} else if e.Writes != "" {
		out = append(out, fault([]string{fmt.Sprintf("give flanneld's user or certificate a role that may write %s/*", e.Prefix)}, "this host's lease cannot be written: %s", e.Writes))
	}
	return out
}

// clockTolerance is beyond what a clock without NTP is off by after a month.
const clockTolerance = 2 * time.Minute

func findClock(f Facts) []Finding {
	var out []Finding
	for _, m := range f.Members {
		if m.Err != nil || m.Ahead.Abs() <= clockTolerance {
			continue
		}
		word := "behind"
		if m.Ahead < 0 {
			word = "ahead of"
		}
		out = append(out, fault([]string{"timedatectl set-ntp true   # or: chronyc makestep"},
			"this host's clock is %v %s that of etcd at %s: certificates are judged by it", m.Ahead.Abs().Round(time.Second), word, m.URL))
	}
	if len(out) == 0 && len(f.Members) == 0 {
		return skipped("flanneld does not say where etcd is")
	}
	return merge(out)
}

// renewalTime is so long before its end that somebody should see to it.
const renewalTime = 7 * 24 * time.Hour

func findCertificates(f Facts) []Finding {
	switch {
	case f.Status == nil:
		return skipped("flanneld does not say which it uses")
	case len(f.Certificates) == 0:
		return skipped("flanneld uses none")
	}
	var out []Finding
	replace := []string{"put a new certificate in its place; flanneld uses it without a restart"}
	for _, c := range f.Certificates {
		switch {
		case c.Err != nil:
			out = append(out, Finding{Level: Unknown, Text: c.Err.Error()})
		case f.Now.Before(c.NotBefore):
			out = append(out, fault([]string{"date   # is the clock right?"}, "%s is valid only from %s on", c.File, c.NotBefore.Format(time.DateTime)))
		case !f.Now.Before(c.NotAfter):
			out = append(out, fault(replace, "%s has expired on %s", c.File, c.NotAfter.Format(time.DateTime)))
		case c.NotAfter.Sub(f.Now) < renewalTime:
			out = append(out, Finding{Level: Note, Text: fmt.Sprintf("%s expires on %s", c.File, c.NotAfter.Format(time.DateTime)), Cure: replace})
		}
	}
	return out
}

func goodConfig(f Facts) string {
	n := f.Status.Network
	return fmt.Sprintf("network %v, backend %s", n.Network, n.Backend)
}

func findConfig(f Facts) []Finding {
	if f.Status == nil {
		return skipped("flanneld does not say what it goes by")
	}
	cure := []string{"flanneld config check", `flanneld config set '{"Network": "172.7.0.0/16", "Backend": {"Type": "host-gw"}}'   # for example`}
	switch problem := f.Status.ConfigProblem; {
	case problem != "":
		return []Finding{fault(cure, "%s", problem)}
	case f.Status.Network == nil:
		return skipped("not read yet")
	}
	return nil
}

func goodLease(f Facts) string {
	l := f.Status.Lease
	if l.Expires.IsZero() {
		return fmt.Sprintf("%v, a reservation", l.Subnet)
	}
	return fmt.Sprintf("%v until %s", l.Subnet, l.Expires.Format(time.DateTime))
}

func findLease(f Facts) []Finding {
	switch s := f.Status; {
	case s == nil:
		return skipped("flanneld does not say whether it has one")
	case s.Lease == nil && s.Network == nil:
		return skipped("there is none before the config can be read")
	case s.Lease == nil:
		return []Finding{fault([]string{logCure}, "this host has no subnet: %s", strings.TrimPrefix(s.Daemon.Reason, "no lease: "))}
	case !s.Lease.Expires.IsZero() && !f.Now.Before(s.Lease.Expires):
		return []Finding{fault([]string{logCure}, "the lease of %v has expired on %s: another host may take it at any time", s.Lease.Subnet, s.Lease.Expires.Format(time.DateTime))}
	case s.Lease.Contested:
		return []Finding{fault([]string{"give each host its own by --public-ip or --iface, and restart flanneld"},
			"another host writes the lease of %v: it seems to have the public IP %v too, so traffic reaches only one of them", s.Lease.Subnet, s.Host.PublicIP)}
	}
	return nil
}
