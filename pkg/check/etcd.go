package check

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"flanneld/pkg/condition"
	"flanneld/pkg/printable"
	"flanneld/pkg/status"
)

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
	if c, there := f.condition(condition.EtcdUnreadable); there {
		why, fix := f.fixReads(c)
		return []Finding{fault(fix, "etcd cannot be read: %s%s", c.Cause, why)}
	}
	if c, there := f.condition(condition.EtcdUnwritable); there {
		return []Finding{fault(f.fixRights(), "this host's lease cannot be written: %s", c.Cause)}
	}
	return nil
}

// fixRights gives flanneld's user its rights. What that user is called only the
// daemon's command line knows.
func (f Facts) fixRights() []string {
	prefix := f.Status.Etcd.Prefix
	grant := func(api string, args ...string) string {
		whose := "   # ROLE: one of flanneld's user, or of its certificate's common name"
		if user := f.Flags["etcd-username"]; user != "" {
			whose = "   # ROLE: one that this names: " + api + " " + printable.Command("etcdctl", "user", "get", user)
		}
		return api + " " + printable.Command("etcdctl", append([]string{"role"}, args...)...) + whose
	}
	below := "/" + strings.TrimPrefix(prefix, "/") + "/*" // all of v2's keys begin with a slash
	v2 := grant("ETCDCTL_API=2", "grant", "ROLE", "--readwrite", "--path", below)
	v3 := grant("ETCDCTL_API=3", "grant-permission", "ROLE", "--prefix=true", "readwrite", prefix+"/")
	fix := []string{v3, v2} // not known yet
	switch f.Status.Etcd.API {
	case "v2":
		fix = []string{v2}
	case "v3":
		fix = []string{v3}
	}
	return append(fix, "or give flanneld another --etcd-username and --etcd-password-file, and restart it")
}

// clockTolerance is beyond what a clock without NTP is off by after a month.
const clockTolerance = 2 * time.Minute

func findClock(f Facts) []Finding {
	if f.Status != nil {
		if found := f.findSetBack(); found != nil {
			return append(found, f.comparedClock()...)
		}
	}
	return f.comparedClock()
}

// comparedClock compares this host's with those of etcd's servers.
func (f Facts) comparedClock() []Finding {
	var off []Member
	agree := 0
	for _, m := range f.Members {
		switch {
		case m.Err != nil:
		case m.Ahead.Abs() > clockTolerance:
			off = append(off, m)
		default:
			agree++
		}
	}
	judged := "certificates are judged by it"
	if f.by(status.WireGuard) {
		judged += ", and WireGuard's peers take no handshake that is older than the last: set forward, it must not go back"
	}
	if agree+len(off) == 0 {
		return skipped("no etcd server says what time it is")
	}
	var out []Finding
	for _, m := range off {
		subject, place, object, ahead := "this host's clock", "", "that of etcd at "+m.URL, m.Ahead < 0
		if agree >= len(off) { // others say what this host says
			subject, place, object, ahead = "the clock of etcd at "+m.URL, ", on the host of "+m.URL, "this host's and "+
				"other members'", !ahead
		}
		word := "behind"
		if ahead {
			word = "ahead of"
		}
		out = append(out, fault([]string{"timedatectl set-ntp true   # or: chronyc makestep" + place},
			"%s is %v %s %s: %s", subject, m.Ahead.Abs().Round(time.Second), word, object, judged))
	}
	return merge(out)
}

// provide says what to do about a file that the daemon cannot read, or not use.
func (f Facts) provide(file string, err error) string {
	word := printable.Word(file)
	if !errors.Is(err, fs.ErrPermission) {
		return "put the right file in the place of " + word
	}
	return printable.Command("chown", strconv.Itoa(f.user.uid), file)
}

// renewalTime is so long before its end that somebody should see to it.
const renewalTime = 7 * 24 * time.Hour

func findCertificates(f Facts) []Finding {
	if f.Status == nil {
		return skipped("flanneld does not say which it uses")
	}
	var out []Finding
	if !f.secure() {
		for _, c := range f.Certificates {
			if c.Err != nil {
				out = append(out, fault([]string{f.provide(c.File, c.Err)},
					"flanneld does not start again without a file that it was given: %v", c.Err))
			}
		}
		switch {
		case out != nil:
			return out
		case len(f.Certificates) > 0:
			return []Finding{note("flanneld's certificates have no effect, as no endpoint of etcd is https")}
		}
		return skipped("flanneld uses none")
	}
	for _, c := range f.Certificates {
		out = append(out, f.dated(c, c.File, "put a new certificate in its place; "+used(c.File))...)
	}
	shown := 0
	for _, m := range f.Members {
		if m.Certificate != nil {
			shown++
			out = append(
				out,
				f.dated(*m.Certificate, "the certificate of etcd at "+m.URL, "give that etcd a new one, as its --cert-file")...)
		}
	}
	if len(f.Certificates)+shown == 0 {
		return skipped("flanneld uses none")
	}
	return out
}

// secure tells whether any endpoint of etcd is asked by TLS.
func (f Facts) secure() bool {
	return slices.ContainsFunc(f.Status.Etcd.Endpoints, func(e string) bool { return strings.HasPrefix(e, "https:") })
}

// credentials is where systemd puts copies of what a unit's LoadCredential= names (systemd.exec(5)).
const credentials = "/run/credentials/"

// used tells when a running flanneld uses what is put in the place of one of its files.
func used(file string) string {
	rest, copied := strings.CutPrefix(file, credentials)
	if !copied {
		return "flanneld uses it without a restart"
	}
	unit, name := path.Split(rest)
	unit = printable.Word(strings.TrimSuffix(unit, "/"))
	return "this is a copy of what LoadCredential=" + printable.Word(name) + " names (systemctl cat " + unit +
		"): change that, then systemctl restart " + unit
}

// dated compares a certificate with the clock.
func (f Facts) dated(c Certificate, name, replace string) []Finding {
	switch {
	case c.Err != nil:
		return []Finding{fault([]string{f.provide(c.File, c.Err) + "   # " + used(c.File)},
			"flanneld cannot use a file of its own for its next connection to etcd: %v", c.Err)}
	case f.Now.Before(c.NotBefore):
		fix := []string{replace}
		if !f.fine("clock") { // wrong, or not to be compared
			fix = []string{"date   # is the clock right?", replace}
		}
		return []Finding{fault(fix, "%s is valid only from %s on", name, c.NotBefore.Format(time.DateTime))}
	case !f.Now.Before(c.NotAfter):
		return []Finding{fault([]string{replace}, "%s has expired on %s", name, c.NotAfter.Format(time.DateTime))}
	case c.NotAfter.Sub(f.Now) < renewalTime:
		return []Finding{
			{Level: Note, Text: fmt.Sprintf("%s expires on %s", name, c.NotAfter.Format(time.DateTime)), Fix: []string{replace}},
		}
	}
	return nil
}
