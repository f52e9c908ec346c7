package main

import (
	"maps"
	"slices"

	"k8s.io/klog/v2"

	"flanneld/internal/cli"
	"flanneld/pkg/daemon"
)

// options are what the command line and the environment ask for, checked.
type options struct {
	daemon.Options
	LogFormat      string // formatText or formatJSON
	LogLevel       int
	LogModules     string // "file=level,…" in klog's notation; empty: none
	LogBacktraceAt string // "file.go:line"; empty: nowhere

	version bool

	// What was given and has no effect, by name, with what there is to say of it.
	noEffect map[string]string
}

// without notes a flag or a variable that has no effect.
func (o *options) without(name, remark string) {
	if o.noEffect == nil {
		o.noEffect = map[string]string{}
	}
	o.noEffect[name] = remark
}

// logNoEffect tells once, at start, what was asked for in vain. It shows no values.
func (o options) logNoEffect() {
	for _, name := range slices.Sorted(maps.Keys(o.noEffect)) {
		klog.InfoS("Ignoring an option", "name", name, "remark", o.noEffect[name])
	}
}

// check looks at what no flag can know alone.
func (o options) check() error {
	switch {
	case o.Etcd.KeyFile != "" && o.Etcd.CertFile == "":
		return cli.Exitf(cli.Failed,
			"--etcd-keyfile=%q needs --etcd-certfile beside it: the certificate that belongs to the key", o.Etcd.KeyFile)
	case o.Etcd.CertFile != "" && o.Etcd.KeyFile == "":
		return cli.Exitf(cli.Failed,
			"--etcd-certfile=%q needs --etcd-keyfile beside it: the key that belongs to the certificate", o.Etcd.CertFile)
	case o.Etcd.PasswordFile != "" && o.Etcd.Password != "":
		return cli.Exitf(cli.Failed, "--%s=%q cannot be given together with --%s or %s: remove one of them",
			passwordFileFlag, o.Etcd.PasswordFile, passwordFlag, cli.EnvName(passwordFlag))
	}
	return nil
}
