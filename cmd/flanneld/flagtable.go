package main

import (
	"errors"
	"math"
)

// topic is a section of the help text.
type topic struct {
	title   string
	entries []entry
}

// entry is a flag: all that is known of it.
type entry struct {
	name    string
	arg     string // the value's name in the help text; empty: a bool
	initial string // the default, as it would be written
	help    string // a line or two
	set     func(string) error
}

func (e entry) isBool() bool { return e.arg == "" }

const (
	endpointsFlag    = "etcd-endpoints"
	passwordFlag     = "etcd-password"
	passwordFileFlag = passwordFlag + "-file"
)

// flagTable is every flag, filling in o.
func flagTable(o *options) []topic {
	return []topic{
		{"etcd", []entry{
			{endpointsFlag, "URL,...", "http://127.0.0.1:4001,http://127.0.0.1:2379",
				"its members", into(&o.Etcd.Endpoints, endpoints)},
			{"etcd-api", "auto|2|3", "auto",
				"its API to keep keys by; auto: where the config key lies", into(&o.Etcd.API, etcdAPI)},
			{"etcd-prefix", "KEY", "/coreos.com/network",
				"the key below which config and leases lie", into(&o.Etcd.Prefix, prefix)},
			{"etcd-keyfile", "FILE", "", "this host's key for TLS, in PEM", into(&o.Etcd.KeyFile, anything)},
			{"etcd-certfile", "FILE", "", "the certificate that belongs to the key", into(&o.Etcd.CertFile, anything)},
			{"etcd-cafile", "FILE", "",
				"the authority behind etcd's certificates; none: those this system trusts", into(&o.Etcd.CAFile, anything)},
			{"etcd-username", "NAME", "", "a user of etcd; none: no authentication by password", into(&o.Etcd.Username, anything)},
			{passwordFlag, "TEXT", "",
				"the user's password. ps shows what is written on a command line:\nset FLANNELD_ETCD_PASSWORD instead, or name a file", into(&o.Etcd.Password, hidden)},
			{passwordFileFlag, "FILE", "", "a file whose first line is the password", into(&o.EtcdPasswordFile, anything)},
		}},
		{"network interface", []entry{
			{"iface", "IP|NAME", "",
				"the interface to reach other hosts by. Repeatable: the first that matches\nwins. None: the interface of the default route", appendTo(&o.Ifaces, anything)},
			{"iface-regex", "REGEX", "",
				"the same by a pattern, tried after every --iface. Repeatable.\nIt is matched against the addresses first, then the names", appendTo(&o.IfaceRegexes, pattern)},
			{"public-ip", "IP", "", "the address other hosts reach this one at; none: the interface's", into(&o.PublicIP, publicIP)},
		}},
		{"lease and subnet file", []entry{
			{"subnet-file", "FILE", "/run/flannel/subnet.env",
				"where dockerd finds this host's subnet", into(&o.SubnetFile, something)},
			{"subnet-lease-renew-margin", "MINUTES", "60",
				"renew the lease this long before it expires, 1 to 1439", into(&o.LeaseRenewMargin, minutes(1, 1439))},
		}},
		{"firewall", []entry{
			{"firewall", "auto|iptables|nftables", "auto",
				"what to write rules by; auto: iptables where the host has it, unless\nthe config key has EnableNFTables", into(&o.Firewall, firewallKind)},
			{"ip-masq", "", "false",
				"masquerade what leaves the network: docker need not", into(&o.IPMasq, boolean)},
			{"iptables-forward-rules", "", "true", "let the cluster's traffic pass the FORWARD chain", into(&o.ForwardRules, boolean)},
			{"iptables-resync", "SECONDS", "5", "put the rules right this often", into(&o.IPTablesResync, seconds(1, math.MaxInt32))},
		}},
		{"health", []entry{
			{"healthz-ip", "IP", "0.0.0.0", "the address of GET /healthz, /readyz and /metrics", into(&o.HealthzIP, address)},
			{"healthz-port", "PORT", "0", "its TCP port; 0: none", into(&o.HealthzPort, port)},
		}},
		{"logging, to standard error", []entry{
			{"v", "LEVEL", "0", "say more, up to 9", into(&o.LogLevel, number(math.MinInt32, math.MaxInt32))},
			{"vmodule", "FILE=LEVEL,...", "", "say more in some source files only", into(&o.LogModules, modules)},
			{"log_backtrace_at", "FILE.go:LINE", "", "print the stack whenever this line logs", into(&o.LogBacktraceAt, sourceLine)},
			{"logtostderr", "", "", "taken for the sake of old scripts, without effect", ignore(boolean)},
			{"alsologtostderr", "", "", "likewise", ignore(boolean)},
			{"stderrthreshold", "SEVERITY", "", "likewise", ignore(anything)},
			{"log_dir", "FOLDER", "", "likewise", ignore(anything)},
		}},
		{"Kubernetes, which this flanneld has no part for: an error", []entry{
			{"kube-subnet-mgr", "", "", "keep leases in the Kubernetes API", noKubernetesUnlessFalse},
			{"kube-api-url", "URL", "", "of the Kubernetes API", noKubernetes},
			{"kube-annotation-prefix", "TEXT", "", "of a node's annotations", noKubernetes},
			{"kubeconfig-file", "FILE", "", "how to reach the Kubernetes API", noKubernetes},
			{"net-config-path", "FILE", "", "the network's config, where etcd has no part", noKubernetes},
		}},
		{"other", []entry{
			{"version", "", "", "print the version and exit", into(&o.version, boolean)},
			{"help", "", "", "print this and exit", into(&o.help, boolean)},
		}},
	}
}

func noKubernetes(string) error {
	return errors.New("asks for leases in Kubernetes, which this flanneld has no part for: remove it, and name the etcd members in --" + endpointsFlag)
}

func noKubernetesUnlessFalse(s string) error {
	if wanted, err := boolean(s); err != nil || wanted {
		return noKubernetes(s)
	}
	return nil
}
