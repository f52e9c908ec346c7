package check

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"flanneld/pkg/condition"
	"flanneld/pkg/inet"
	"flanneld/pkg/printable"
	"flanneld/pkg/status"
	"flanneld/pkg/subnet"
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
		const start = "systemctl start flanneld   # or: supervisorctl start, and its program's name"
		if len(f.Missing) == 0 {
			return []Finding{fault([]string{start, logFix}, "%v", f.Daemon)}
		}
		var out []Finding
		for _, m := range f.Missing {
			out = append(out, fault([]string{f.provide(m.File, m.Err), start},
				"%v; it does not start without the file of --%s: %v", f.Daemon, m.Flag, m.Err))
		}
		return out
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
	return fmt.Sprintf("network %v, backend %s", subnet.SubnetsOf(f.networks()...), f.Status.Network.Backend)
}

func findConfig(f Facts) []Finding {
	if f.Status == nil {
		return skipped("flanneld does not say what it goes by")
	}
	if f.keyRefused() {
		return skipped("flanneld cannot use its private key: see below")
	}
	for _, code := range []condition.Code{condition.ConfigMissing, condition.ConfigInvalid} {
		if c, there := f.condition(code); there {
			text := strings.ReplaceAll(c.Text(), "<prefix>", f.Status.Etcd.Prefix)
			return []Finding{fault(f.fixConfig(code), "%s", text)}
		}
	}
	if f.Status.Network == nil {
		return skipped("not read yet")
	}
	return nil
}

// fixConfig puts the config key right. What it should hold only the operator knows:
// where this host goes by an earlier config, that one moves nobody.
func (f Facts) fixConfig(code condition.Code) (fix []string) {
	if earlier := f.setConfig(""); earlier != "" {
		fix = append(fix, earlier+"   # back to what this host goes by")
	}
	if code == condition.ConfigInvalid {
		return append(fix, f.flanneld("config", "get")+
			"   # shows the key: correct what is named, and write the whole by: flanneld config set")
	}
	if len(fix) > 0 {
		return fix
	}
	fix = []string{f.flanneld("config", "set") + " - < FILE   # FILE: with this cluster's config (docs/configuration.md)"}
	var written []string
	for _, n := range f.Env.Networks() {
		written = append(written, fmt.Sprintf("%sNetwork %v", dialects[inet.Of(n.Addr())].prefix, n))
	}
	if len(written) > 0 {
		fix[0] += fmt.Sprintf("; %s here was written for the %s", f.envFile(), strings.Join(written, " and the "))
	}
	return fix
}

// longestConfig is what a line on a terminal may hold, in bytes.
const longestConfig = 2000

// setConfig is the command that writes the config in force, with another type of
// backend where one is given; empty: that config is not known.
func (f Facts) setConfig(backend string) string {
	if f.Status.Network == nil {
		return ""
	}
	text, ok := withType(f.Status.Network.Config, backend)
	if !ok || strings.Contains(text, subnet.HiddenSecret) || len(text) > longestConfig {
		return ""
	}
	return f.flanneld("config", "set") + " " + printable.Word(text)
}

// withType is a config with another Type in its Backend; empty: with the one it has.
func withType(config, backend string) (string, bool) {
	var all, options map[string]json.RawMessage
	if json.Unmarshal([]byte(config), &all) != nil {
		return "", false
	}
	if backend == "" {
		return config, true
	}
	if old, there := all["Backend"]; there && json.Unmarshal(old, &options) != nil {
		return "", false
	}
	changed := map[string]any{"Type": backend}
	for name, value := range options {
		if !strings.EqualFold(name, "Type") && string(value) != `"`+subnet.HiddenSecret+`"` {
			changed[name] = value
		}
	}
	whole := map[string]any{}
	for name, value := range all {
		whole[name] = value
	}
	whole["Backend"] = changed
	out, err := json.Marshal(whole)
	return string(out), err == nil
}

const defaultPrefix = "/coreos.com/network"

// flanneld is a command of flanneld's that finds the daemon's etcd.
func (f Facts) flanneld(verb ...string) string {
	e := f.Status.Etcd
	for _, flag := range [][2]string{
		{"endpoints", strings.Join(e.Endpoints, ",")}, {"prefix", e.Prefix}, {"api", strings.TrimPrefix(e.API, "v")},
		{"keyfile", e.KeyFile}, {"certfile", e.CertFile}, {"cafile", e.CAFile},
		{"username", f.Flags["etcd-username"]}, {"password-file", f.Flags["etcd-password-file"]},
	} {
		if flag[1] != "" && flag[1] != defaultPrefix {
			verb = append(verb, "--etcd-"+flag[0]+"="+flag[1])
		}
	}
	return printable.Command("flanneld", verb...)
}
