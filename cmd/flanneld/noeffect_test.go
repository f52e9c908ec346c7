package main

import (
	"bytes"
	"context"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestEffects holds that of each flag, of the daemon and of every command, it is known
// when it has no effect, or that it always has one.
func TestEffects(t *testing.T) {
	there := map[string]bool{}
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		cmd.Flags().VisitAll(func(f *pflag.Flag) { there[f.Name] = true })
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	walk(new(program).root())
	if diff := cmp.Diff(slices.Sorted(maps.Keys(there)), slices.Sorted(maps.Keys(effects))); diff != "" {
		t.Errorf("flags, and those of which it is known when they have no effect: -want +got\n%s", diff)
	}
}

// started is what the daemon says of options without effect.
func started(t *testing.T, environ []string, args ...string) map[string]string {
	t.Helper()
	env := environment{}
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		env[name] = value
	}
	var got map[string]string
	p := &program{env: env.lookup, environ: func() []string { return environ }, stdout: io.Discard, stderr: io.Discard,
		serve: func(_ context.Context, o options) error { got = o.noEffect; return nil }}
	if err := p.run(t.Context(), args); err != nil {
		t.Errorf("%q: %v", args, err)
	}
	return got
}

// TestVain gives each flag where it has no effect, and beside what it has one by.
func TestVain(t *testing.T) {
	const files = "the log goes to standard error alone, and into no files: let the supervisor keep it"
	const plain = "no endpoint of etcd is https, so nothing is encrypted: write https:// in --etcd-endpoints if etcd speaks TLS"
	const nobody, noPassword = "no user logs in to etcd without --etcd-username", "no user logs in to etcd without a password: give --etcd-password-file too"
	const noRules, noPort = "neither --ip-masq nor --iptables-forward-rules asks for rules", "nothing listens there without --healthz-port"
	for _, tt := range []struct {
		args, env, names, remark string // one remark of all the names
	}{
		{"--etcd-cafile=a --etcd-certfile=b --etcd-keyfile=c", "", "--etcd-cafile --etcd-certfile --etcd-keyfile", plain},
		{"--etcd-cafile=a --etcd-endpoints=http://a,HTTPS://b", "", "", ""},
		{"", "FLANNELD_ETCD_CAFILE=a FLANNELD_ETCD_ENDPOINTS=http://a", "--etcd-cafile", plain},
		{"--etcd-endpoints=https://a", "FLANNELD_ETCD_CAFILE=a", "", ""},
		{"--etcd-password=s3cret", "", "--etcd-password", nobody},
		{"", "FLANNELD_ETCD_PASSWORD=s3cret", "--etcd-password", nobody},
		{"--etcd-password-file=a", "", "--etcd-password-file", nobody},
		{"--etcd-username=a", "", "--etcd-username", noPassword},
		{"--etcd-username=a --etcd-api=3", "", "--etcd-username", noPassword},
		{"--etcd-username=a --etcd-api=2", "", "", ""},
		{"--etcd-username=a", "FLANNELD_ETCD_PASSWORD=s3cret", "", ""},
		{"--etcd-username=a --etcd-password-file=b", "", "", ""},
		{"--ip-masq-fully-random-disable", "", "--ip-masq-fully-random-disable", "nothing is masqueraded without --ip-masq"},
		{"--ip-masq-fully-random-disable --ip-masq", "", "", ""},
		{"--ip-masq-fully-random-disable=false", "", "", ""},
		{"--firewall=nftables --iptables-resync=1 --iptables-forward-rules=false", "", "--firewall --iptables-resync", noRules},
		{"--firewall=nftables --iptables-resync=1 --iptables-forward-rules=false --ip-masq", "", "", ""},
		{"--firewall=nftables --iptables-resync=1", "", "", ""},
		{"--firewall=auto --iptables-forward-rules=false", "", "", ""},
		{"--healthz-ip=127.0.0.1", "", "--healthz-ip", noPort},
		{"--healthz-ip=127.0.0.1 --healthz-port=0", "", "", ""},
		{"--healthz-page", "", "--healthz-page", "nothing is served without --healthz-port"},
		{"--healthz-page --healthz-port=2401", "", "", ""},
		{"--healthz-page=false", "", "", ""},
		{"--healthz-ip=127.0.0.1", "FLANNELD_HEALTHZ_PORT=2401", "", ""},
		{"--log_backtrace_at=a.go:1 --log-format=json", "", "--log_backtrace_at", "lines of --log-format=json have no stack"},
		{"--log_backtrace_at=a.go:1", "", "", ""},
		{"--logtostderr=false --log_dir=/var/log/flannel", "", "--log_dir --logtostderr", files},
		{"", "FLANNELD_LOG_DIR=/var/log/flannel", "--log_dir", files},
		{"--logtostderr --alsologtostderr --stderrthreshold=INFO --log_dir= --v=0", "", "", ""},
		{"--alsologtostderr=false --stderrthreshold=0", "", "", ""},
		{"--stderrthreshold=ERROR", "", "--stderrthreshold", "all that is logged goes to standard error"},
		{"--iface=eth0 --iface-regex=a --iface-can-reach=10.4.7.1 --subnet-lease-renew-margin=1439", "", "", ""},
		{"--kube-subnet-mgr=false --net-config-path=/etc/kube-flannel/net-conf.json --set-node-network-unavailable=false", "", "", ""},
		{"--iface=eth0", "FLANNELD_IFACE=eth1", "FLANNELD_IFACE", "--iface on the command line overrules it"},
		{"--etcd-password=s3cret --etcd-username=a", "FLANNELD_ETCD_PASSWORD=other", "FLANNELD_ETCD_PASSWORD", "--etcd-password on the command line overrules it"},
		{"--iface=eth0 --ip-masq -healthz-port=1", "FLANNELD_IFACE=eth0 FLANNELD_IP_MASQ=1 FLANNELD_HEALTHZ_PORT=", "", ""},
		{"--ip-masq=false", "FLANNELD_IP_MASQ=true", "FLANNELD_IP_MASQ", "--ip-masq on the command line overrules it"},
	} {
		got := started(t, strings.Fields(tt.env), strings.Fields(tt.args)...)
		var want map[string]string
		for _, name := range strings.Fields(tt.names) {
			if want == nil {
				want = map[string]string{}
			}
			want[name] = tt.remark
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s, %s: -want +got:\n%s", tt.args, tt.env, diff)
		}
	}
}

// TestStatusByTheEnvironment has variables that are meant for the daemon: its prefix is
// the one that is asked for, and where etcd is does not make status ask etcd.
func TestStatusByTheEnvironment(t *testing.T) {
	env := environment{"FLANNELD_ETCD_ENDPOINTS": "http://10.4.7.12:2379", "FLANNELD_ETCD_PREFIX": "nowhere"}
	for _, args := range [][]string{{"status"}, {"check"}} {
		var asked string
		p := &program{env: env.lookup, stdout: io.Discard, stderr: io.Discard,
			command: func(_ context.Context, c *call) error { asked = c.prefix(); return nil }}
		if err := p.run(t.Context(), args); err != nil || asked != "nowhere" {
			t.Errorf("%q: asks for %q, %v", args, asked, err)
		}
	}
	p := &program{env: env.lookup, stdout: io.Discard, stderr: io.Discard}
	const want = "no flanneld runs in this network namespace; FLANNELD_ETCD_ENDPOINTS is for the daemon: give --etcd-endpoints to read the leases in etcd"
	if err := p.run(t.Context(), []string{"status"}); err == nil || err.Error() != want {
		t.Errorf("%v", err)
	}
}

// TestVainInCommands is the same where a flag is given to a command. What the
// environment has may be meant for the daemon.
func TestVainInCommands(t *testing.T) {
	env := environment{"FLANNELD_ETCD_CAFILE": "/nowhere/a.pem", "FLANNELD_ETCD_PASSWORD": "s3cret"}
	for args, want := range map[string]string{
		"status --etcd-cafile=/nowhere/b.pem":                       "flanneld: ignoring --etcd-cafile: the running flanneld is asked, unless --etcd-endpoints is given\n",
		"status -o json --etcd-prefix=/nowhere":                     "",
		"config check --etcd-api=2 {}":                              "flanneld: ignoring --etcd-api: etcd is not asked where the config is an argument\n",
		"config get --etcd-cafile=/nowhere/b.pem --etcd-username=a": "flanneld: ignoring --etcd-cafile: no endpoint of etcd is https, so nothing is encrypted: write https:// in --etcd-endpoints if etcd speaks TLS\n",
		"config get":                           "",
		"migrate --from=2 --to=3 --etcd-api=2": "flanneld: ignoring --etcd-api: --from and --to name the APIs\n",
		"lease list --etcd-endpoints=https://a.invalid --etcd-cafile=/nowhere/b.pem": "",
	} {
		var said bytes.Buffer
		p := &program{env: env.lookup, stdout: io.Discard, stderr: &said, stdin: strings.NewReader("")}
		if err := p.run(t.Context(), strings.Fields(args)); err == nil {
			t.Errorf("%s: no error, without any etcd and flanneld", args)
		}
		if got := said.String(); got != want {
			t.Errorf("%s says\n%s, want\n%s", args, got, want)
		}
	}
}
