package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"

	"flanneld/internal/cli"
	"flanneld/pkg/daemon"
)

type environment map[string]string

func (e environment) lookup(name string) (string, bool) {
	v, ok := e[name]
	return v, ok
}

func defaults(change func(*options)) options {
	o := options{Options: daemon.Options{
		Etcd: daemon.Etcd{
			Endpoints: []string{"http://127.0.0.1:4001", "http://127.0.0.1:2379"},
			Prefix:    "/coreos.com/network",
		},
		SubnetFile:       "/run/flannel/subnet.env",
		WireGuardKeyFile: "/run/flannel/wgkey",
		LeaseRenewMargin: time.Hour,
		ForwardRules:     true,
		IPTablesResync:   5 * time.Second,
		Firewall:         daemon.FirewallAuto,
		PeerProbes:       true,
		HealthzIP:        netip.IPv4Unspecified(),
	}, LogFormat: "text"}
	change(&o)
	return o
}

var compare = cmp.Options{
	cmpopts.IgnoreUnexported(options{}),
	cmpopts.EquateComparable(netip.Addr{}),
	cmp.Comparer(func(a, b *regexp.Regexp) bool { return a.String() == b.String() }),
}

// TestOptions gives each flag on the command line in all its spellings, and in
// the environment.
func TestOptions(t *testing.T) {
	ip := netip.MustParseAddr
	re := regexp.MustCompile
	tests := []struct {
		name, value string
		want        func(*options)
	}{
		{"etcd-endpoints", "https://10.4.7.12:2379,https://10.4.7.21:2379", func(o *options) {
			o.Etcd.Endpoints = []string{"https://10.4.7.12:2379", "https://10.4.7.21:2379"}
		}},
		{"etcd-endpoints", " http://etcd.example/ ,, https://[fd00::1]:2379/v2/,", func(o *options) {
			o.Etcd.Endpoints = []string{"http://etcd.example", "https://[fd00::1]:2379/v2"}
		}},
		{"etcd-prefix", "/a/b", func(o *options) { o.Etcd.Prefix = "/a/b" }},
		{"etcd-prefix", "//a//b/", func(o *options) { o.Etcd.Prefix = "/a/b" }},
		{"etcd-prefix", "a//b/", func(o *options) { o.Etcd.Prefix = "a/b" }},
		{"etcd-endpoints", "HTTPS://Etcd.example:2379", func(o *options) { o.Etcd.Endpoints = []string{"https://Etcd.example:2379"} }},
		{"etcd-cafile", "./cert/ca.pem", func(o *options) { o.Etcd.CAFile = "./cert/ca.pem" }},
		{"etcd-username", "root", func(o *options) { o.Etcd.Username = "root" }},
		{"etcd-password", " p=w,d ", func(o *options) { o.Etcd.Password = " p=w,d " }},
		{"etcd-password-file", "./password", func(o *options) { o.Etcd.PasswordFile = "./password" }},
		{"etcd-password-file", "", func(*options) {}},
		{"iface", "ens33", func(o *options) { o.Ifaces = []string{"ens33"} }},
		{"iface", "10.4.7.21", func(o *options) { o.Ifaces = []string{"10.4.7.21"} }},
		{"iface-regex", `^10\.4\.\d{1,3}`, func(o *options) { o.IfaceRegexes = []*regexp.Regexp{re(`^10\.4\.\d{1,3}`)} }},
		{"public-ip", "10.4.7.21", func(o *options) { o.PublicIP = ip("10.4.7.21") }},
		{"subnet-file", "./subnet.env", func(o *options) { o.SubnetFile = "./subnet.env" }},
		{"wireguard-key-file", "./wgkey", func(o *options) { o.WireGuardKeyFile = "./wgkey" }},
		{"subnet-lease-renew-margin", "1", func(o *options) { o.LeaseRenewMargin = time.Minute }},
		{"subnet-lease-renew-margin", "1439", func(o *options) { o.LeaseRenewMargin = 24*time.Hour - time.Minute }},
		{"ip-masq", "true", func(o *options) { o.IPMasq = true }},
		{"ip-masq", "0", func(*options) {}},
		{"iptables-forward-rules", "false", func(o *options) { o.ForwardRules = false }},
		{"iptables-resync", "1", func(o *options) { o.IPTablesResync = time.Second }},
		{"firewall", "nftables", func(o *options) { o.Firewall = daemon.NFTables }},
		{"firewall", "iptables", func(o *options) { o.Firewall = daemon.IPTables }},
		{"peer-probes", "false", func(o *options) { o.PeerProbes = false }},
		{"healthz-ip", "127.0.0.1", func(o *options) { o.HealthzIP = ip("127.0.0.1") }},
		{"healthz-ip", "::1", func(o *options) { o.HealthzIP = ip("::1") }},
		{"healthz-port", "2401", func(o *options) { o.HealthzPort = 2401 }},
		{"healthz-port", "65535", func(o *options) { o.HealthzPort = 65535 }},
		{"healthz-page", "true", func(o *options) { o.HealthzPage = true }},
		{"log-format", "json", func(o *options) { o.LogFormat = "json" }},
		{"v", "5", func(o *options) { o.LogLevel = 5 }},
		{"vmodule", "manager=4,route*=5", func(o *options) { o.LogModules = "manager=4,route*=5" }},
		{"log_backtrace_at", "manager.go:120", func(o *options) { o.LogBacktraceAt = "manager.go:120" }},
		{"logtostderr", "false", func(*options) {}},
		{"alsologtostderr", "true", func(*options) {}},
		{"stderrthreshold", "ERROR", func(*options) {}},
		{"log_dir", "/var/log", func(*options) {}},
		{"kube-subnet-mgr", "false", func(*options) {}},
		{"iface-can-reach", "10.4.7.1", func(o *options) { o.CanReach = ip("10.4.7.1") }},
		{"ip-masq-fully-random-disable", "true", func(o *options) { o.PlainPorts = true }},
		{"ip-blackhole-route", "true", func(*options) {}},
		{"ip-blackhole-route", "false", func(*options) {}},
		{"set-node-network-unavailable", "true", func(*options) {}},
		{"net-config-path", "/etc/kube-flannel/net-conf.json", func(*options) {}},
		{"net-config-path", "", func(*options) {}},
		{"public-ipv6", "", func(*options) {}},
		{"public-ipv6", "fd00:4::21", func(o *options) { o.PublicIPv6 = ip("fd00:4::21") }},
		{"iface-can-reach", "fd00:4::1", func(o *options) { o.CanReach = ip("fd00:4::1") }},
		{"iface-can-reach", "::ffff:10.4.7.1", func(o *options) { o.CanReach = ip("10.4.7.1") }},
		{"iface", "fd00:4::21", func(o *options) { o.Ifaces = []string{"fd00:4::21"} }},
		{"healthz-ip", "fd00:4::21", func(o *options) { o.HealthzIP = ip("fd00:4::21") }},
		{"etcd-endpoints", "http://[fd00:4::11]:2379,https://[fd00:4::12]/", func(o *options) {
			o.Etcd.Endpoints = []string{"http://[fd00:4::11]:2379", "https://[fd00:4::12]"}
		}},
		{"iface-can-reach", "", func(*options) {}},
		{"version", "false", func(*options) {}},
		// an unset variable in a script is as no flag at all
		{"iface", "", func(*options) {}},
		{"iface-regex", "", func(*options) {}},
		{"public-ip", "", func(*options) {}},
		{"etcd-keyfile", "", func(*options) {}},
		{"vmodule", "", func(*options) {}},
		{"log_backtrace_at", "", func(*options) {}},
	}
	for _, tt := range tests {
		t.Run(tt.name+"="+tt.value, func(t *testing.T) {
			want := defaults(tt.want)
			spellings := [][]string{{"--" + tt.name + "=" + tt.value}, {"-" + tt.name + "=" + tt.value}}
			if !isBool(tt.name) {
				spellings = append(spellings, []string{"--" + tt.name, tt.value}, []string{"-" + tt.name, tt.value})
			} else if tt.value == "true" {
				spellings = append(spellings, []string{"--" + tt.name}, []string{"-" + tt.name})
			}
			for _, args := range spellings {
				got, err := parseFlags(args, environment{}.lookup, "")
				if diff := cmp.Diff(want, got, compare); err != nil || diff != "" {
					t.Errorf("%q: error %v, -want +got:\n%s", args, err, diff)
				}
			}
			got, err := parseFlags(nil, environment{cli.EnvName(tt.name): tt.value}.lookup, "")
			if diff := cmp.Diff(want, got, compare); err != nil || diff != "" {
				t.Errorf("environment: error %v, -want +got:\n%s", err, diff)
			}
		})
	}
}

func isBool(name string) bool {
	return new(program).root().Flags().Lookup(name).NoOptDefVal != ""
}

// parseFlags gives a command line to the program, whose daemon tells only how it
// was started. What the program prints instead is an exit with code 0.
func parseFlags(args []string, env func(string) (string, bool), version string) (options, error) {
	var got *options
	var printed bytes.Buffer
	p := &program{
		version: version, env: env, stdin: strings.NewReader(""), stdout: &printed, stderr: io.Discard,
		serve:   func(_ context.Context, o options) error { got = &o; return nil },
		command: func(context.Context, *call) error { return errors.New("it is no command for the daemon") },
	}
	err := p.run(context.Background(), args)
	switch {
	case err != nil:
		return options{}, err
	case got == nil:
		return options{}, &cli.Exit{Text: strings.TrimSuffix(printed.String(), "\n")}
	}
	return *got, nil
}

// TestCompat is compat.md's table: every name, with its default.
func TestCompat(t *testing.T) {
	want := map[string]string{
		"etcd-endpoints": "http://127.0.0.1:4001,http://127.0.0.1:2379", "etcd-prefix": "/coreos.com/network",
		"etcd-keyfile": "", "etcd-certfile": "", "etcd-cafile": "", "etcd-username": "", "etcd-password": "",
		"iface": "", "iface-regex": "", "public-ip": "", "subnet-file": "/run/flannel/subnet.env",
		"subnet-lease-renew-margin": "60", "ip-masq": "false", "healthz-ip": "0.0.0.0", "healthz-port": "0",
		"wireguard-key-file": "/run/flannel/wgkey", "firewall": "auto", "iptables-resync": "5", "iptables-forward-rules": "true", "version": "",
		"v": "0", "vmodule": "", "log_backtrace_at": "",
		"kube-subnet-mgr": "", "kube-api-url": "", "kube-annotation-prefix": "", "kubeconfig-file": "", "net-config-path": "",
		// of 0.28
		"iface-can-reach": "", "public-ipv6": "", "ip-masq-fully-random-disable": "false", "ip-blackhole-route": "",
		"set-node-network-unavailable": "",
		// ours
		"logtostderr": "", "alsologtostderr": "", "stderrthreshold": "", "log_dir": "", "help": "false", "etcd-password-file": "", "etcd-api": "auto", "log-format": "text",
		"healthz-page": "false", "peer-probes": "true",
	}
	got := map[string]string{}
	new(program).root().Flags().VisitAll(func(f *pflag.Flag) {
		got[f.Name] = f.DefValue
		if f.DefValue != "" {
			if err := f.Value.Set(f.DefValue); err != nil {
				t.Errorf("the default of --%s %v", f.Name, err)
			}
		}
	})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got, err := parseFlags(nil, environment{}.lookup, ""); err != nil || !cmp.Equal(defaults(func(*options) {}), got, compare) {
		t.Errorf("without flags: %+v, %v", got, err)
	}
}

func TestTutorialsCommandLine(t *testing.T) {
	args := strings.Fields(`--public-ip=10.4.7.21
		--etcd-endpoints=https://10.4.7.12:2379,https://10.4.7.21:2379,https://10.4.7.22:2379
		--etcd-keyfile=./cert/client-key.pem --etcd-certfile=./cert/client.pem --etcd-cafile=./cert/ca.pem
		--iface=ens33 --subnet-file=./subnet.env --healthz-port=2401`)
	want := defaults(func(o *options) {
		o.PublicIP = netip.MustParseAddr("10.4.7.21")
		o.Etcd.Endpoints = []string{"https://10.4.7.12:2379", "https://10.4.7.21:2379", "https://10.4.7.22:2379"}
		o.Etcd.KeyFile, o.Etcd.CertFile, o.Etcd.CAFile = "./cert/client-key.pem", "./cert/client.pem", "./cert/ca.pem"
		o.Ifaces, o.SubnetFile, o.HealthzPort = []string{"ens33"}, "./subnet.env", 2401
	})
	got, err := parseFlags(args, environment{}.lookup, "")
	if diff := cmp.Diff(want, got, compare); err != nil || diff != "" {
		t.Errorf("error %v, -want +got:\n%s", err, diff)
	}
}

func TestCombinations(t *testing.T) {
	env := environment{"FLANNELD_HEALTHZ_PORT": "1", "FLANNELD_IFACE": "eth9", "FLANNELD_IP_MASQ": "true", "FLANNELD_SUBNET_FILE": "", "FLANNELD_HELP": "true", "FLANNELD_V": "3"}
	args := []string{"-iface", "eth0", "--iface=-odd", "--iface", "10.4.7.21", "-iface-regex=a", "-iface-regex=b,c", "-healthz-port=2", "--healthz-port", "3", "-ip-masq=false", "--"}
	want := defaults(func(o *options) {
		o.Ifaces = []string{"eth0", "-odd", "10.4.7.21"}
		o.IfaceRegexes = []*regexp.Regexp{regexp.MustCompile("a"), regexp.MustCompile("b,c")}
		o.HealthzPort, o.LogLevel = 3, 3
	})
	before := maps.Clone(env)
	got, err := parseFlags(args, env.lookup, "")
	if diff := cmp.Diff(want, got, compare); err != nil || diff != "" {
		t.Errorf("error %v, -want +got:\n%s", err, diff)
	}
	if !maps.Equal(before, env) {
		t.Error("the environment changed")
	}
}

// TestNoEffect is what the daemon says at its start of options that it ignores. Their
// values do not show.
func TestNoEffect(t *testing.T) {
	blackhole := map[string]string{"--ip-blackhole-route": "flanneld writes no route for this host's own subnet"}
	for _, tt := range []struct {
		args, environ []string
		want          map[string]string
	}{
		{nil, nil, nil},
		{[]string{"--ip-blackhole-route=false", "--set-node-network-unavailable=false"}, nil, nil},
		{[]string{"-ip-blackhole-route"}, nil, blackhole},
		{nil, []string{"FLANNELD_IP_BLACKHOLE_ROUTE=true"}, blackhole},
		{[]string{"--set-node-network-unavailable"}, nil, map[string]string{
			"--set-node-network-unavailable": "it is about nodes of Kubernetes, which this flanneld has no part for"}},
		{nil, []string{"FLANNELD_ETCD_ENDPOINT=http://u:s3cret@a", "FLANNELD_FROB=s3cret", "FLANNELD_IFACE=eth0",
			"FLANNELD_EMPTY=", "FLANNEL_OPTIONS=-x", "HOME=/", "FLANNELD_ETCD_PASWORD=s3cret", "FLANNELD_iface=a"}, map[string]string{
			"FLANNELD_ETCD_ENDPOINT": "no flag has this name: did you mean FLANNELD_ETCD_ENDPOINTS?",
			"FLANNELD_FROB":          "no flag has this name",
			"FLANNELD_ETCD_PASWORD":  "no flag has this name: did you mean FLANNELD_ETCD_PASSWORD?",
			"FLANNELD_iface":         "no flag has this name: did you mean FLANNELD_IFACE?",
		}},
	} {
		var got map[string]string
		env := environment{}
		for _, variable := range tt.environ {
			name, value, _ := strings.Cut(variable, "=")
			env[name] = value
		}
		p := &program{env: env.lookup, environ: func() []string { return tt.environ }, stdout: io.Discard, stderr: io.Discard,
			serve: func(_ context.Context, o options) error { got = o.noEffect; return nil }}
		if err := p.run(t.Context(), tt.args); err != nil {
			t.Errorf("%q: %v", tt.args, err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%q, %q: -want +got:\n%s", tt.args, tt.environ, diff)
		}
	}
}

// An empty value is as none, so that the environment and the default count, and of
// several values only the last one is judged.
func TestEmptyAndRepeated(t *testing.T) {
	env := environment{"FLANNELD_ETCD_PREFIX": "/env", "FLANNELD_IFACE": "eth9", "FLANNELD_KUBE_API_URL": ""}
	for _, tt := range []struct {
		args []string
		env  environment
		want func(*options)
	}{
		{[]string{"-etcd-prefix=", "-subnet-file=", "-iface=", "--kube-api-url=", "--healthz-port=", "-ip-masq=", ""}, nil,
			func(*options) {}},
		{[]string{"-etcd-prefix", "", "-subnet-file", "", "-iface", "", "--kube-api-url", "", "", "--version="}, nil,
			func(*options) {}},
		{[]string{"-etcd-prefix=", "-iface="}, env,
			func(o *options) { o.Etcd.Prefix, o.Ifaces = "/env", []string{"eth9"} }},
		{[]string{"-etcd-prefix=/a", "-etcd-prefix="}, env,
			func(o *options) { o.Etcd.Prefix, o.Ifaces = "/env", []string{"eth9"} }},
		{[]string{"-etcd-endpoints=", "-etcd-endpoints=http://a"}, nil,
			func(o *options) { o.Etcd.Endpoints = []string{"http://a"} }},
		{[]string{"-etcd-endpoints=nonsense", "-etcd-endpoints=http://a", "-v=x", "-v=1"}, nil,
			func(o *options) { o.Etcd.Endpoints, o.LogLevel = []string{"http://a"}, 1 }},
		{[]string{"-kube-subnet-mgr", "-kube-subnet-mgr=false", "-kube-api-url=https://k", "-kube-api-url="}, nil,
			func(*options) {}},
		{[]string{"-iface=eth0", "-iface=", "-iface", "eth1"}, nil,
			func(o *options) { o.Ifaces = []string{"eth0", "eth1"} }},
	} {
		want := defaults(tt.want)
		got, err := parseFlags(tt.args, tt.env.lookup, "")
		if diff := cmp.Diff(want, got, compare); err != nil || diff != "" {
			t.Errorf("%q: error %v, -want +got:\n%s", tt.args, err, diff)
		}
	}
}

func TestEmptyAndRepeatedInCommands(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string // the command, its prefix and its arguments
	}{
		{[]string{"", "lease", "list", "-etcd-prefix=", ""}, "lease list /env []"},
		{[]string{"lease", "release", "-etcd-prefix=/a", "-etcd-prefix=/b", "", "172.7.21.0/24"}, "lease release /b [172.7.21.0/24]"},
		{[]string{"-etcd-prefix=/", "-etcd-prefix=/b", "status"}, "status /b []"},
		{[]string{"config", "set", ""}, "config set /env []"},
	} {
		path, c, err := parse(tt.args, environment{"FLANNELD_ETCD_PREFIX": "/env"}.lookup)
		if err != nil {
			t.Errorf("%q: %v", tt.args, err)
			continue
		}
		if got := fmt.Sprint(path, " ", c.Etcd.Prefix, " ", c.args); got != tt.want {
			t.Errorf("%q: %s, want %s", tt.args, got, tt.want)
		}
	}
}

func TestErrors(t *testing.T) {
	members := "must be URLs of the form http://host:port or https://host:port, separated by commas"
	kube := "asks for leases in Kubernetes, which this flanneld has no part for: remove it, and name the etcd members in --etcd-endpoints"
	tests := []struct {
		args string // separated by spaces
		env  environment
		code int
		want string
	}{
		{"--healthz-port=65536", nil, 1, `--healthz-port="65536" must be a whole number from 0 to 65535`},
		{"-healthz-port -1", nil, 1, `--healthz-port="-1" must be a whole number from 0 to 65535`},
		{"", environment{"FLANNELD_HEALTHZ_PORT": "x\ny"}, 1, `FLANNELD_HEALTHZ_PORT="x\ny" must be a whole number from 0 to 65535`},
		{"--healthz-ip=localhost", nil, 1, `--healthz-ip="localhost" must be an IP address`},
		{"--subnet-lease-renew-margin=0", nil, 1, `--subnet-lease-renew-margin="0" must be a whole number of minutes from 1 to 1439`},
		{"--subnet-lease-renew-margin=1440", nil, 1, `--subnet-lease-renew-margin="1440" must be a whole number of minutes from 1 to 1439`},
		{"--subnet-lease-renew-margin=1h", nil, 1, `--subnet-lease-renew-margin="1h" must be a whole number of minutes from 1 to 1439`},
		{"--iptables-resync=0", nil, 1, `--iptables-resync="0" must be a whole number of seconds from 1 to 2147483647`},
		{"--firewall=nft", nil, 1, `--firewall="nft" must be auto, iptables or nftables`},
		{"--ip-masq=maybe", nil, 1, `--ip-masq="maybe" must be true or false`},
		{"", environment{"FLANNELD_IPTABLES_FORWARD_RULES": "off"}, 1, `FLANNELD_IPTABLES_FORWARD_RULES="off" must be true or false`},
		{"", environment{"FLANNELD_VERSION": "0.11.0"}, 1, `FLANNELD_VERSION="0.11.0" must be true or false`},
		{"--public-ip=host", nil, 1, `--public-ip="host" must be the IPv4 address at which other hosts reach this one`},
		{"--public-ip=fd00::1", nil, 1, `--public-ip="fd00::1" must be the IPv4 address at which other hosts reach this one`},
		{"--public-ip=127.0.0.1", nil, 1, `--public-ip="127.0.0.1" must be the IPv4 address at which other hosts reach this one`},
		{"--public-ip=0.0.0.0", nil, 1, `--public-ip="0.0.0.0" must be the IPv4 address at which other hosts reach this one`},
		{"--public-ip=224.0.0.1", nil, 1, `--public-ip="224.0.0.1" must be the IPv4 address at which other hosts reach this one`},
		{"--iface-regex=eth(0", nil, 1, `--iface-regex="eth(0" is not a regular expression: missing closing )`},
		{"--iface-regex=eth[9-0]", nil, 1, `--iface-regex="eth[9-0]" is not a regular expression: invalid character class range "9-0" at character 5`},
		{"--etcd-prefix=/", nil, 1, `--etcd-prefix="/" must be a key such as /coreos.com/network`},
		{"--etcd-prefix=a\x01", nil, 1, `--etcd-prefix="a\x01" must be a key such as /coreos.com/network`},
		{"--etcd-endpoints=10.4.7.12:2379", nil, 1, `--etcd-endpoints="10.4.7.12:2379" ` + members},
		{"--etcd-endpoints=etcd", nil, 1, `--etcd-endpoints="etcd" ` + members},
		{"--etcd-endpoints=http://", nil, 1, `--etcd-endpoints="http://" ` + members},
		{"--etcd-endpoints=http://a,ftp://b", nil, 1, `--etcd-endpoints="http://a,ftp://b" ` + members},
		{"--etcd-endpoints=http://a:", nil, 1, `--etcd-endpoints="http://a:" ` + members},
		{"--etcd-endpoints=http://a:65536", nil, 1, `--etcd-endpoints="http://a:65536" ` + members},
		{"--etcd-endpoints=http://a?b", nil, 1, `--etcd-endpoints="http://a?b" ` + members},
		{"--etcd-endpoints=,", nil, 1, `--etcd-endpoints="," must name at least one member of the cluster, such as http://10.4.7.12:2379`},
		{"--etcd-endpoints=http://u:s3cret@a", nil, 1, `--etcd-endpoints="***@a" must not hold a user or password: give them by --etcd-username and FLANNELD_ETCD_PASSWORD`},
		{"--etcd-endpoints=http://u:s3/cret@a", nil, 1, `--etcd-endpoints="***@a" ` + members},
		{"--etcd-keyfile=k.pem", nil, 1, `--etcd-keyfile="k.pem" needs --etcd-certfile beside it: the certificate that belongs to the key`},
		{"", environment{"FLANNELD_ETCD_CERTFILE": "c.pem"}, 1, `--etcd-certfile="c.pem" needs --etcd-keyfile beside it: the key that belongs to the certificate`},
		{"--vmodule=a", nil, 1, `--vmodule="a" must be pairs of a source file and a level, such as manager=4,route*=5`},
		{"--vmodule=a=1,=2", nil, 1, `--vmodule="a=1,=2" must be pairs of a source file and a level, such as manager=4,route*=5`},
		{"--log_backtrace_at=a:1", nil, 1, `--log_backtrace_at="a:1" must be a line of a source file, such as manager.go:120`},
		{"--log_backtrace_at=a.go:0", nil, 1, `--log_backtrace_at="a.go:0" must be a line of a source file, such as manager.go:120`},
		{"--log-format=xml", nil, 1, `--log-format="xml" must be text or json`},
		{"-v=verbose", nil, 1, `--v="verbose" must be a whole number from -2147483648 to 2147483647`},

		{"--kube-subnet-mgr", nil, 1, `--kube-subnet-mgr="true" ` + kube},
		{"-kube-subnet-mgr=1", nil, 1, `--kube-subnet-mgr="1" ` + kube},
		{"", environment{"FLANNELD_KUBE_SUBNET_MGR": "true"}, 1, `FLANNELD_KUBE_SUBNET_MGR="true" ` + kube},
		{"--kube-api-url https://k", nil, 1, `--kube-api-url="https://k" ` + kube},
		{"--kube-annotation-prefix=a", nil, 1, `--kube-annotation-prefix="a" ` + kube},
		{"--kubeconfig-file=a", nil, 1, `--kubeconfig-file="a" ` + kube},
		{"--net-config-path=a", nil, 1, `--net-config-path="a" ` + kube},
		{"", environment{"FLANNELD_NET_CONFIG_PATH": "/a"}, 1, `FLANNELD_NET_CONFIG_PATH="/a" ` + kube},
		{"--public-ipv6=10.4.7.21", nil, 1, `--public-ipv6="10.4.7.21" must be the IPv6 address at which other hosts reach this one`},
		{"", environment{"FLANNELD_PUBLIC_IPV6": "::1"}, 1, `FLANNELD_PUBLIC_IPV6="::1" must be the IPv6 address at which other hosts reach this one`},
		{"--public-ipv6=fe80::1%eth0", nil, 1, `--public-ipv6="fe80::1%eth0" must be the IPv6 address at which other hosts reach this one`},
		{"--public-ipv6=fe80::1", nil, 1, `--public-ipv6="fe80::1" must be the IPv6 address at which other hosts reach this one`},
		{"--public-ipv6=::ffff:10.4.7.21", nil, 1, `--public-ipv6="::ffff:10.4.7.21" must be the IPv6 address at which other hosts reach this one`},
		{"--public-ipv6=ff02::1", nil, 1, `--public-ipv6="ff02::1" must be the IPv6 address at which other hosts reach this one`},
		{"--iface-can-reach=ens33", nil, 1, `--iface-can-reach="ens33" must be an IP address`},
		{"--iface-can-reach=fe80::1%ens33", nil, 1, `--iface-can-reach="fe80::1%ens33" must be an IP address`},
		{"--etcd-endpoints=http://fd00:4::11:2379", nil, 1, `--etcd-endpoints="http://fd00:4::11:2379" must have IPv6 addresses in brackets, such as http://[fd00:4::12]:2379`},
		{"--etcd-endpoints=http://[fd00:4::11", nil, 1, `--etcd-endpoints="http://[fd00:4::11" ` + members},
		{"--ip-blackhole-route=maybe", nil, 1, `--ip-blackhole-route="maybe" must be true or false`},

		{"--etcd-endpoint=http://a", nil, 2, `unknown flag "--etcd-endpoint": did you mean --etcd-endpoints?`},
		{"-endpoints http://a", nil, 2, `unknown flag "--endpoints": did you mean --etcd-endpoints?`},
		{"--ip_masq", nil, 2, `unknown flag "--ip_masq": did you mean --ip-masq?`},
		{"--healthport=1", nil, 2, `unknown flag "--healthport": did you mean --healthz-port?`},
		{"-v5", nil, 2, `unknown flag "--v5": flanneld --help lists the flags`},
		{"--frobnicate", nil, 2, `unknown flag "--frobnicate": flanneld --help lists the flags`},
		{"---iface=a", nil, 2, `unknown flag "---iface": did you mean --iface?`},
		{"--=a", nil, 2, `unknown flag "--": flanneld --help lists the flags`},
		{"--iface", nil, 2, `--iface needs a value: --iface=IP|NAME`},
		{"-v", nil, 2, `--v needs a value: --v=LEVEL`},
		{"daemon", nil, 2, `unexpected argument "daemon": flanneld takes flags only, and flanneld --help lists them`},
		{"-", nil, 2, `unexpected argument "-": flanneld takes flags only, and flanneld --help lists them`},
		{"-- a", nil, 2, `unexpected argument "--": flanneld takes flags only, and flanneld --help lists them`},
		{"--ip-masq true", nil, 2, `unexpected argument "true" after --ip-masq: write --ip-masq=true`},
		{"-ip-masq false -iface eth0", nil, 2, `unexpected argument "false" after --ip-masq: write --ip-masq=false`},
		{"-ip-masq yes", nil, 2, `unexpected argument "yes" after --ip-masq: remove it; a switch takes =true or =false alone`},
		{"-iface eth0 eth1", nil, 2, `unexpected argument "eth1" after --iface: remove it, or quote a value with spaces, --iface="..."`},
		{"--healthz-port=1 --healthz-port=x", nil, 1, `--healthz-port="x" must be a whole number from 0 to 65535`},
		{"--iface-regex=( --iface-regex=a", nil, 1, `--iface-regex="(" is not a regular expression: missing closing )`},

		{"--etcd-password-file=f --etcd-password=s3cret", nil, 1, `--etcd-password-file="f" cannot be given together with --etcd-password or FLANNELD_ETCD_PASSWORD: remove one of them`},
		{"--etcd-password-file=f", environment{"FLANNELD_ETCD_PASSWORD": "s3cret"}, 1, `--etcd-password-file="f" cannot be given together with --etcd-password or FLANNELD_ETCD_PASSWORD: remove one of them`},
		{"--etcd-password=s3cret --bogus", nil, 2, `unknown flag "--bogus": flanneld --help lists the flags`},
		{"--etcd-password not s3cret", nil, 2, `unexpected argument after --etcd-password: quote the value`},
		{"--etcd-passwords3cret", nil, 2, `unknown flag "--etcd-password...": did you mean --etcd-password?`},
		{"--etcd-pasword=s3cret", nil, 2, `unknown flag "--etcd-pasword": did you mean --etcd-password?`},
		{"--ip-masq=x", environment{"FLANNELD_ETCD_PASSWORD": "s3cret"}, 1, `--ip-masq="x" must be true or false`},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			var args []string
			if tt.args != "" {
				args = strings.Split(tt.args, " ")
			}
			got, err := parseFlags(args, tt.env.lookup, "")
			var e *cli.Exit
			if !errors.As(err, &e) || e.Code != tt.code || e.Text != tt.want {
				t.Errorf("%#v\n got: %v\nwant: %s (%d)", e, err, tt.want, tt.code)
			}
			if !cmp.Equal(options{}, got, compare) {
				t.Error("an error comes with options")
			}
			if strings.Contains(tt.want, "s3cret") {
				t.Error("a password shows")
			}
		})
	}
}
