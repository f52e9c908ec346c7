package main

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"time"

	"flanneld/pkg/subnet/etcdauto"
)

// options are what the command line and the environment ask for, checked.
type options struct {
	EtcdEndpoints []string // "https://10.4.7.12:2379": no user, no path's end
	EtcdAPI       etcdauto.API
	EtcdPrefix    string // "/coreos.com/network": no trailing slash
	EtcdKeyfile   string // given together with EtcdCertfile, or not at all
	EtcdCertfile  string
	EtcdCAfile    string // empty: the system's authorities
	EtcdUsername  string // empty: no authentication by password
	EtcdPassword  secret
	// Where the password is the first line of a file; given instead of it.
	EtcdPasswordFile string

	Ifaces       []string         // addresses or names, in order of preference
	IfaceRegexes []*regexp.Regexp // tried after every one of Ifaces
	PublicIP     netip.Addr       // IPv4; invalid: the chosen interface's address

	SubnetFile       string
	LeaseRenewMargin time.Duration // 1 minute to 1 day less a minute

	Firewall       wall
	IPMasq         bool
	ForwardRules   bool
	IPTablesResync time.Duration // 1 second or more

	HealthzIP   netip.Addr
	HealthzPort uint16 // 0: off

	LogLevel       int
	LogModules     string // "file=level,…" in klog's notation; empty: none
	LogBacktraceAt string // "file.go:line"; empty: nowhere

	help, version bool
}

// secret is a string that is never printed. Its holder converts it where it
// is used.
type secret string

// Format writes stars for every verb.
func (secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "***") }

// exit ends the program at once: with code 0 its text is what was asked for,
// with any other it is one line that says what is wrong.
type exit struct {
	code int
	text string
}

// Codes by which flanneld ends. The second is that of Go programs, as before.
const (
	exitAnswered = 0
	exitFailed   = 1
	exitUsage    = 2 // the command line cannot be parsed
)

func (e *exit) Error() string { return e.text }

func exitf(code int, format string, args ...any) *exit {
	return &exit{code, fmt.Sprintf(format, args...)}
}

// check looks at what no flag can know alone.
func (o options) check() error {
	switch {
	case o.EtcdKeyfile != "" && o.EtcdCertfile == "":
		return exitf(exitFailed, "--etcd-keyfile=%q needs --etcd-certfile beside it: the certificate that belongs to the key", o.EtcdKeyfile)
	case o.EtcdCertfile != "" && o.EtcdKeyfile == "":
		return exitf(exitFailed, "--etcd-certfile=%q needs --etcd-keyfile beside it: the key that belongs to the certificate", o.EtcdCertfile)
	case o.EtcdPasswordFile != "" && o.EtcdPassword != "":
		return exitf(exitFailed, "--%s=%q cannot be given together with --%s or %s: remove one of them",
			passwordFileFlag, o.EtcdPasswordFile, passwordFlag, envName(passwordFlag))
	}
	return nil
}

// password is that of the flag, or the first line of the file.
func (o options) password() (secret, error) {
	if o.EtcdPasswordFile == "" {
		return o.EtcdPassword, nil
	}
	content, err := os.ReadFile(o.EtcdPasswordFile)
	if err != nil {
		return "", fmt.Errorf("read the password for etcd, --%s: %w", passwordFileFlag, err)
	}
	line, _, _ := strings.Cut(string(content), "\n")
	if line = strings.TrimSuffix(line, "\r"); line == "" {
		return "", fmt.Errorf("the first line of --%s=%s is empty: write the password for etcd into it", passwordFileFlag, o.EtcdPasswordFile)
	}
	return secret(line), nil
}
