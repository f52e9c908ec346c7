package main

import (
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"flanneld/internal/cli"
	"flanneld/pkg/daemon"
	"flanneld/pkg/subnet/etcdauto"
	"flanneld/pkg/subnet/etcdconn"
)

// situation is a command line in which a flag may have no effect.
type situation struct {
	*options
	cmd  *cobra.Command
	args []string
}

// given tells whether a flag is given: for the daemon in the environment too, and for a
// command, whose environment may be meant for others, on the command line alone.
func (s situation) given(flag string) bool {
	if s.cmd.HasParent() {
		return s.cmd.Flags().Changed(flag)
	}
	_, given := cli.Given(s.cmd.Flags(), flag)
	return given
}

// on tells whether a switch is given and on.
func (s situation) on(flag string) bool {
	text, _ := cli.Given(s.cmd.Flags(), flag)
	on, _ := cli.Bool(text)
	return on
}

// vain says why a flag that is given has no effect; "": it has one, or asks for what
// happens anyhow.
type vain func(situation) string

// effects has each flag of the daemon and of its commands, so that none is forgotten.
var effects = map[string]vain{
	endpointsFlag:    always,
	prefixFlag:       always,
	"etcd-api":       first(unasked, ofMigrate),
	etcdKeyFileFlag:  first(unasked, withoutTLS),
	certFileFlag:     first(unasked, withoutTLS),
	caFileFlag:       first(unasked, withoutTLS),
	"etcd-username":  first(unasked, withoutPassword),
	passwordFlag:     first(unasked, withoutUser),
	passwordFileFlag: first(unasked, withoutUser),

	"iface":           always,
	"iface-regex":     always, // where no --iface matches
	"iface-can-reach": always, // likewise
	"public-ip":       always,
	"public-ipv6":     always,

	"subnet-file":               always,
	"subnet-lease-renew-margin": always,
	keyFileFlag:                 always,

	"firewall": func(s situation) string {
		if s.Firewall == daemon.FirewallAuto {
			return ""
		}
		return withoutRules(s)
	},
	"ip-masq": always,
	"ip-masq-fully-random-disable": func(s situation) string {
		return when(s.PlainPorts && !s.IPMasq, "nothing is masqueraded without --ip-masq")
	},
	"iptables-forward-rules": always,
	"iptables-resync":        withoutRules, // nftables' rules are read as often
	"ip-blackhole-route": func(s situation) string {
		return when(s.on("ip-blackhole-route"), "flanneld writes no route for this host's own subnet")
	},

	"peer-probes": always,
	"healthz-ip": func(s situation) string { // who writes --healthz-port=0 knows
		return when(s.HealthzPort == 0 && !s.given("healthz-port"), "nothing listens there without --healthz-port")
	},
	"healthz-port": always,
	"healthz-page": func(s situation) string {
		return when(s.HealthzPage && s.HealthzPort == 0, "nothing is served without --healthz-port")
	},

	logFormatFlag: always,
	"v":           always,
	"vmodule":     always,
	"log_backtrace_at": func(s situation) string {
		return when(s.LogFormat == formatJSON, "lines of --log-format=json have no stack")
	},
	"logtostderr": func(s situation) string { return when(!s.on("logtostderr"), noFiles) },
	// Standard error it is in any case.
	"alsologtostderr": always,
	"stderrthreshold": func(s situation) string {
		severity, _ := cli.Given(s.cmd.Flags(), "stderrthreshold")
		return when(severity != "INFO" && severity != "0", "all that is logged goes to standard error")
	},
	"log_dir": func(situation) string { return noFiles },

	// Errors, but for a value that asks for nothing.
	"kube-subnet-mgr": always, "kube-api-url": always, "kube-annotation-prefix": always, "kubeconfig-file": always,
	"net-config-path": always,
	"set-node-network-unavailable": func(s situation) string {
		return when(s.on("set-node-network-unavailable"),
			"it is about nodes of Kubernetes, which this flanneld has no part for")
	},

	"version": always, "help": always,
	// of commands alone
	"output": always, "all": always, "yes": always, "now": always, "from": always, "to": always,
}

const noFiles = "the log goes to standard error alone, and into no files: let the supervisor keep it"

func always(situation) string { return "" }

func when(vain bool, remark string) string {
	if vain {
		return remark
	}
	return ""
}

func first(all ...vain) vain {
	return func(s situation) string {
		for _, v := range all {
			if remark := v(s); remark != "" {
				return remark
			}
		}
		return ""
	}
}

// unasked is for commands that may do without etcd.
func unasked(s situation) string {
	switch s.cmd.CommandPath() {
	case "flanneld status":
		return when(!s.given(endpointsFlag), "the running flanneld is asked, unless --etcd-endpoints is given")
	case "flanneld config check":
		return when(len(s.args) > 0, "etcd is not asked where the config is an argument")
	}
	return ""
}

func ofMigrate(s situation) string {
	return when(s.cmd.CommandPath() == "flanneld migrate", "--from and --to name the APIs")
}

func withoutTLS(s situation) string {
	return when(!etcdconn.Secure(s.Etcd.Endpoints), "no endpoint of etcd is https, so nothing is encrypted: "+
		"write https:// in --etcd-endpoints if etcd speaks TLS")
}

// The v3 API asks for a token only with both; by v2 the name is sent alone as well.
func withoutPassword(s situation) string {
	return when(s.Etcd.Password == "" && s.Etcd.PasswordFile == "" && s.Etcd.API != etcdauto.V2,
		"no user logs in to etcd without a password: give --"+passwordFileFlag+" too")
}

func withoutUser(s situation) string {
	return when(s.Etcd.Username == "", "no user logs in to etcd without --etcd-username")
}

func withoutRules(s situation) string {
	return when(!s.IPMasq && !s.ForwardRules, "neither --ip-masq nor --iptables-forward-rules asks for rules")
}

// noteVain notes the flags that are given and have no effect.
func (o *options) noteVain(s situation) {
	s.options = o
	for name, remark := range effects {
		if s.given(name) {
			if text := remark(s); text != "" {
				o.without("--"+name, text)
			}
		}
	}
}

// sayVain is the same for a command, which says so beside its output.
func (c *call) sayVain(s situation) {
	c.noteVain(s)
	for _, name := range slices.Sorted(maps.Keys(c.noEffect)) {
		fmt.Fprintf(c.stderr, "flanneld: ignoring %s: %s\n", name, c.noEffect[name])
	}
}
