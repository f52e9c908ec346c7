package check

import (
	"errors"
	"fmt"
	"strings"

	"flanneld/pkg/condition"
	"flanneld/pkg/status"
)

// logFix leads to the daemon's own words.
const logFix = "journalctl -u flanneld   # or supervisord's stdout_logfile: it says what flanneld does and why"

// restartFix has a daemon put everything right that is its own, at once.
const restartFix = "systemctl restart flanneld   # or: supervisorctl restart, and its program's name"

func goodDaemon(f Facts) string {
	return fmt.Sprintf("flanneld %s runs, pid %d", f.Status.Daemon.Version, f.Status.Daemon.PID)
}

func findDaemon(f Facts) []Finding {
	switch {
	case errors.Is(f.Daemon, status.ErrNoDaemon):
		return []Finding{
			fault([]string{"systemctl start flanneld   # or: supervisorctl start, and its program's name"}, "%v", f.Daemon),
		}
	case f.Frozen != 0:
		return []Finding{
			fault(
				[]string{fmt.Sprintf("kill -CONT %d", f.Frozen)},
				"flanneld (pid %d) is stopped, by Ctrl-Z or a signal: it does nothing until it is continued",
				f.Frozen,
			),
		}
	case f.Status == nil:
		return unknown("%v", f.Daemon)
	}
	return nil
}

func goodConfig(f Facts) string {
	n := f.Status.Network
	return fmt.Sprintf("network %v, backend %s", n.Network, n.Backend)
}

func findConfig(f Facts) []Finding {
	if f.Status == nil {
		return skipped("flanneld does not say what it goes by")
	}
	for _, code := range []condition.Code{condition.ConfigMissing, condition.ConfigInvalid} {
		if c, there := f.condition(code); there {
			return []Finding{
				fault([]string{f.setConfig("")}, "%s", strings.ReplaceAll(c.Text(), "<prefix>", f.Status.Etcd.Prefix)),
			}
		}
	}
	if f.Status.Network == nil {
		return skipped("not read yet")
	}
	return nil
}

// setConfig is the command that writes the config in force, or one with another
// backend.
func (f Facts) setConfig(backend string) string {
	length, why := "", "for example"
	if n := f.Status.Network; n != nil {
		if why = "what is in force, but for settings beyond these"; backend != "" {
			why = "and the other settings that it has"
		}
		if backend == "" {
			backend = n.Backend
		}
		if n.SubnetLen != 24 {
			length = fmt.Sprintf(`"SubnetLen": %d, `, n.SubnetLen)
		}
	}
	if backend == "" {
		backend = "host-gw"
	}
	return fmt.Sprintf(
		`flanneld config set%s '{"Network": "%s", %s"Backend": {"Type": "%s"}}'   # %s`,
		f.etcdFlags(),
		f.network(),
		length,
		backend,
		why,
	)
}

const defaultPrefix = "/coreos.com/network"

// etcdFlags are those by which another verb finds the daemon's etcd.
func (f Facts) etcdFlags() string {
	e := f.Status.Etcd
	out := ""
	for _, flag := range [][2]string{
		{"endpoints", strings.Join(e.Endpoints, ",")}, {"prefix", e.Prefix}, {"api", strings.TrimPrefix(e.API, "v")},
		{"keyfile", e.KeyFile}, {"certfile", e.CertFile}, {"cafile", e.CAFile},
	} {
		if flag[1] != "" && flag[1] != defaultPrefix {
			out += " --etcd-" + flag[0] + "=" + flag[1]
		}
	}
	return out
}
