package daemon

import (
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"flanneld/pkg/printable"
	"flanneld/pkg/status"
	"flanneld/pkg/subnet/etcdauto"
	"flanneld/pkg/subnet/etcdconn"
)

// Options are what a daemon is started with. Their values are valid: whoever
// fills them in has checked them.
type Options struct {
	Version string // as `flanneld --version` prints it
	Etcd    Etcd

	Ifaces       []string         // addresses or names, in order of preference
	IfaceRegexes []*regexp.Regexp // tried after every one of Ifaces
	CanReach     netip.Addr       // the interface that leads there, tried after those; invalid: not asked for
	PublicIP     netip.Addr       // IPv4; invalid: the chosen interface's address
	PublicIPv6   netip.Addr       // the same for IPv6

	SubnetFile       string
	WireGuardKeyFile string        // of the private key, which is made where it is not there
	LeaseRenewMargin time.Duration // 1 minute to 1 day less a minute

	Firewall       FirewallMode
	IPMasq         bool
	PlainPorts     bool // masquerading does not draw source ports at random
	ForwardRules   bool
	IPTablesResync time.Duration // 1 second or more

	PeerProbes bool // a sample of the peers is probed all the time

	HealthzIP   netip.Addr
	HealthzPort uint16 // 0: off
	HealthzPage bool   // for browsers, beside the rest
}

// Etcd says where etcd is, and how to get in.
type Etcd struct {
	Endpoints []string // "https://10.4.7.12:2379": no user, no path's end
	API       etcdauto.API
	Prefix    string // as it is written, less a trailing slash: "/coreos.com/network", "coreos.com/network"
	KeyFile   string // given together with CertFile, or not at all
	CertFile  string
	CAFile    string // empty: the system's authorities
	Username  string // empty: no authentication by password
	Password  Secret
	// PasswordFile has the password in its first line; empty: it is given otherwise.
	PasswordFile string

	Addresses *etcdconn.Addresses // is told where connections go; nil: nobody wants to know
}

// ReadPassword is that which was given, or the first line of the file as it is now.
func (e Etcd) ReadPassword() (Secret, error) {
	if e.PasswordFile == "" {
		return e.Password, nil
	}
	content, err := etcdconn.ReadFile(e.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("read the password for etcd, --etcd-password-file: %w", err)
	}
	line, _, _ := strings.Cut(string(content), "\n")
	if line = strings.TrimSuffix(line, "\r"); line == "" {
		return "", fmt.Errorf("the first line of --etcd-password-file=%s is empty: write the password for etcd into it",
			e.PasswordFile)
	}
	return Secret(line), nil
}

// Config is the same for etcd's clients.
func (e Etcd) Config() etcdconn.Config {
	return etcdconn.Config{
		Endpoints: e.Endpoints, Prefix: e.Prefix,
		KeyFile: e.KeyFile, CertFile: e.CertFile, CAFile: e.CAFile,
		Username: e.Username, Password: string(e.Password),
		Addresses: e.Addresses,
	}
}

// Command is a command line of flanneld's that finds the same etcd, but for the password
// where that is in no file.
func (e Etcd) Command(words ...string) string {
	api := ""
	if e.API != etcdauto.Auto {
		api = strings.TrimPrefix(e.API.String(), "v")
	}
	prefix := e.Prefix
	if prefix == status.DefaultPrefix {
		prefix = ""
	}
	for _, flag := range [][2]string{
		{"endpoints", strings.Join(e.Endpoints, ",")}, {"prefix", prefix}, {"api", api},
		{"keyfile", absolute(e.KeyFile)}, {"certfile", absolute(e.CertFile)}, {"cafile", absolute(e.CAFile)},
		{"username", e.Username}, {"password-file", absolute(e.PasswordFile)},
	} {
		if flag[1] != "" {
			words = append(words, "--etcd-"+flag[0]+"="+flag[1])
		}
	}
	return printable.Command("flanneld", words...)
}

// Open prepares access to the keys. It does not connect yet; its errors are about
// the files.
func (e Etcd) Open() (*etcdauto.Registry, error) { return etcdauto.New(e.Config(), e.API) }

// Secret is a string that is never printed. Its holder converts it where it
// is used.
type Secret string

// Format writes stars for every verb of package fmt.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "***") }

// FirewallMode says by what rules are written.
type FirewallMode string

// The modes.
const (
	// FirewallAuto is iptables, and nftables where the config key says so or the
	// host has no iptables.
	FirewallAuto FirewallMode = "auto"
	IPTables     FirewallMode = "iptables"
	NFTables     FirewallMode = "nftables"
)
