package main

import (
	"errors"
	"math"

	"flanneld/internal/cli"
	"flanneld/pkg/daemon"
	"flanneld/pkg/inet"
	"flanneld/pkg/status"
	"flanneld/pkg/subnet/etcdauto"
)

const (
	endpointsFlag    = "etcd-endpoints"
	prefixFlag       = "etcd-prefix"
	passwordFlag     = "etcd-password"
	passwordFileFlag = passwordFlag + "-file"
	certFileFlag     = "etcd-certfile"
	etcdKeyFileFlag  = "etcd-keyfile"
	caFileFlag       = "etcd-cafile"
	logFormatFlag    = "log-format"
	keyFileFlag      = "wireguard-key-file"
)

func newFlag(name, arg, initial, help string, set func(string) error) cli.Flag {
	return cli.Flag{Name: name, Arg: arg, Default: initial, Help: help, Set: set}
}

func newTopic(title string, flags ...cli.Flag) cli.Topic {
	return cli.Topic{Title: title, Flags: flags}
}

// daemonFlags are all that the daemon has, filling in o.
func daemonFlags(o *options) []cli.Topic {
	return []cli.Topic{
		etcdFlags(o),
		newTopic("network interface",
			cli.Flag{Name: "iface", Arg: "IP|NAME", Repeatable: true, Complete: interfaces,
				Set: cli.AppendTo(&o.Ifaces, cli.Text),
				Help: "the interface to reach other hosts by. Repeatable: the first that matches wins. " +
					"None: the interface of the default route"},
			cli.Flag{Name: "iface-regex", Arg: "REGEX", Repeatable: true, Set: cli.AppendTo(&o.IfaceRegexes, cli.Pattern),
				Help: "the same by a pattern, tried after every --iface. Repeatable. " +
					"It is matched against the addresses first, then the names"},
			newFlag("iface-can-reach", "IP", "", "the interface by which this host reaches an address, tried after these",
				cli.Into(&o.CanReach, cli.Host)),
			newFlag("public-ip", "IP", "",
				"the address other hosts reach this one at; given alone, it chooses the interface; none: the interface's",
				cli.Into(&o.PublicIP, cli.PublicIP(inet.IPv4))),
			newFlag("public-ipv6", "IP", "", "the same for IPv6, where the config key enables that",
				cli.Into(&o.PublicIPv6, cli.PublicIP(inet.IPv6))),
		),
		newTopic("lease and subnet file",
			newFlag("subnet-file", "FILE", "/run/flannel/subnet.env", "where dockerd finds this host's subnet",
				cli.Into(&o.SubnetFile, cli.NotEmpty)),
			newFlag("subnet-lease-renew-margin", "MINUTES", "60", "renew the lease this long before it expires, 1 to 1439",
				cli.Into(&o.LeaseRenewMargin, cli.Minutes(1, 1439))),
		),
		keyTopic(o),
		newTopic("firewall",
			newFlag("firewall", firewallModes, "auto", "what to write rules by; auto: iptables where the host has it, "+
				"unless the config key has EnableNFTables",
				cli.Into(&o.Firewall, cli.OneOf(firewallModes, daemon.FirewallAuto, daemon.IPTables, daemon.NFTables))),
			newFlag("ip-masq", "", "false", "masquerade what leaves the network: docker need not",
				cli.Into(&o.IPMasq, cli.Bool)),
			newFlag("ip-masq-fully-random-disable", "", "false", "keep source ports where they are free, rather than "+
				"drawing them at random", cli.Into(&o.PlainPorts, cli.Bool)),
			newFlag("iptables-forward-rules", "", "true", "let the cluster's traffic pass the FORWARD chain",
				cli.Into(&o.ForwardRules, cli.Bool)),
			newFlag("iptables-resync", "SECONDS", "5", "repair the rules this often",
				cli.Into(&o.IPTablesResync, cli.Seconds(1, math.MaxInt32))),
			newFlag("ip-blackhole-route", "", "", "without effect, which the log says",
				cli.Ignore(cli.Bool)),
		),
		newTopic("health",
			newFlag("peer-probes", "", "true", "probe a small random sample of the other hosts all the time, for status "+
				"and metrics", cli.Into(&o.PeerProbes, cli.Bool)),
			newFlag("healthz-ip", "IP", "0.0.0.0", "the address of GET /healthz, /readyz and /metrics",
				cli.Into(&o.HealthzIP, cli.Address)),
			newFlag("healthz-port", "PORT", "0", "its TCP port; 0: none", cli.Into(&o.HealthzPort, cli.Port)),
			newFlag("healthz-page", "", "false", "show a page for browsers there, at /: it tells more than the others",
				cli.Into(&o.HealthzPage, cli.Bool)),
		),
		newTopic("logging, to standard error",
			newFlag(logFormatFlag, logFormats, formatText, "lines for people, or one JSON object each",
				cli.Into(&o.LogFormat, cli.OneOf(logFormats, formatText, formatJSON))),
			newFlag("v", "LEVEL", "0", "log more. 1: each pass; 2: each event; 3: each request and program; 4: details",
				cli.Into(&o.LogLevel, cli.Number(math.MinInt32, math.MaxInt32))),
			newFlag("vmodule", "FILE=LEVEL,...", "", "log more in some source files only",
				cli.Into(&o.LogModules, cli.LogModules)),
			newFlag("log_backtrace_at", "FILE.go:LINE", "", "print the stack whenever this line logs",
				cli.Into(&o.LogBacktraceAt, cli.SourceLine)),
			newFlag("logtostderr", "", "", "taken for the sake of old scripts, as standard error it is in any case",
				cli.Ignore(cli.Bool)),
			newFlag("alsologtostderr", "", "", "likewise", cli.Ignore(cli.Bool)),
			newFlag("stderrthreshold", "SEVERITY", "", "likewise", cli.Ignore(cli.Text)),
			newFlag("log_dir", "FOLDER", "", "likewise", cli.Ignore(cli.Text)),
		),
		newTopic("Kubernetes, which this flanneld has no part for: an error",
			newFlag("kube-subnet-mgr", "", "", "keep leases in the Kubernetes API", noKubernetesUnlessFalse),
			newFlag("kube-api-url", "URL", "", "of the Kubernetes API", noKubernetes),
			newFlag("kube-annotation-prefix", "TEXT", "", "of a node's annotations", noKubernetes),
			newFlag("kubeconfig-file", "FILE", "", "how to reach the Kubernetes API", noKubernetes),
			newFlag("net-config-path", "FILE", "", "the network's config, where etcd has no part; its default, "+
				netConfigPath+", is no error", noNetConfig),
			newFlag("set-node-network-unavailable", "", "", "a node's condition; without effect, which the log says",
				cli.Ignore(cli.Bool)),
		),
		newTopic(cli.Other,
			newFlag("version", "", "", "print the version and exit", cli.Into(&o.version, cli.Bool)),
		),
	}
}

// etcdFlags are the daemon's flags about etcd, which commands have too.
func etcdFlags(o *options) cli.Topic {
	return newTopic("etcd",
		cli.Flag{Name: endpointsFlag, Arg: "URL,...", Default: "http://127.0.0.1:4001,http://127.0.0.1:2379",
			Help: "its members", Set: cli.Into(&o.Etcd.Endpoints, cli.Endpoints), Show: cli.WithoutUser},
		newFlag("etcd-api", apis, "auto", "its API to keep keys by; auto: where the config key lies",
			cli.Into(&o.Etcd.API, cli.OneOf(apis, etcdauto.Auto, etcdauto.V2, etcdauto.V3))),
		newPrefixFlag(o),
		newFlag(etcdKeyFileFlag, "FILE", "", "this host's key for TLS, in PEM", cli.Into(&o.Etcd.KeyFile, cli.Text)),
		newFlag(certFileFlag, "FILE", "", "the certificate that belongs to the key",
			cli.Into(&o.Etcd.CertFile, cli.Text)),
		newFlag(caFileFlag, "FILE", "", "the authority behind etcd's certificates; none: those this system trusts",
			cli.Into(&o.Etcd.CAFile, cli.Text)),
		newFlag("etcd-username", "NAME", "", "a user of etcd; none: no authentication by password",
			cli.Into(&o.Etcd.Username, cli.Text)),
		cli.Flag{Name: passwordFlag, Arg: "TEXT", Secret: true,
			Help: "the user's password. ps shows what is written on a command line: set FLANNELD_ETCD_PASSWORD " +
				"instead, or name a file",
			Set: cli.Into(&o.Etcd.Password, func(s string) (daemon.Secret, error) { return daemon.Secret(s), nil })},
		newFlag(passwordFileFlag, "FILE", "", "a file whose first line is the password",
			cli.Into(&o.Etcd.PasswordFile, cli.Text)),
	)
}

func newPrefixFlag(o *options) cli.Flag {
	return newFlag(prefixFlag, "KEY", status.DefaultPrefix, "the key below which config and leases lie",
		cli.Into(&o.Etcd.Prefix, cli.Key))
}

const (
	apis          = "auto|2|3"
	firewallModes = "auto|iptables|nftables"
	logFormats    = formatText + "|" + formatJSON
)

func noKubernetes(string) error {
	return errors.New("asks for leases in Kubernetes, which this flanneld has no part for: remove it, " +
		"and name the etcd members in --" + endpointsFlag)
}

// netConfigPath is flannel's default.
const netConfigPath = "/etc/kube-flannel/net-conf.json"

func noNetConfig(s string) error {
	if s == netConfigPath {
		return nil
	}
	return noKubernetes(s)
}

func noKubernetesUnlessFalse(s string) error {
	if wanted, err := cli.Bool(s); err != nil || wanted {
		return noKubernetes(s)
	}
	return nil
}
