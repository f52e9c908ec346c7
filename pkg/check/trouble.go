package check

import (
	"cmp"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"flanneld/pkg/condition"
	"flanneld/pkg/firewall/iptables"
	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/inet"
	"flanneld/pkg/printable"
)

// Trouble is why an etcd server does not answer as it should.
type Trouble string

// The troubles, each with a fix of its own.
const (
	NoAddress     Trouble = "its name has no address"
	NoRoute       Trouble = "this host has no route to it"
	Refused       Trouble = "nobody listens on its port"
	Filtered      Trouble = "its host answers pings, and its port nothing: a firewall drops or rejects that"
	Dead          Trouble = "its host does not answer pings either"
	SpeaksTLS     Trouble = "it speaks https"
	SpeaksPlain   Trouble = "it speaks http without TLS"
	UnknownSigner Trouble = "none of the authorities that flanneld goes by has signed its certificate"
	OtherName     Trouble = "its certificate is not for that name or address"
	RefusesClient Trouble = "it wants a client certificate of an authority that it trusts"
)

// unverifiedTrouble is what a certificate's error means. A date is another step's.
func unverifiedTrouble(err error) Trouble {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	switch {
	case errors.As(err, &unknown):
		return UnknownSigner
	case errors.As(err, &name):
		return OtherName
	}
	return ""
}

// fixReads says why etcd cannot be read, and what to do.
func (f Facts) fixReads(c condition.Condition) (why string, fix []string) {
	if c.Denied {
		return "", f.fixRights()
	}
	for _, m := range f.Members {
		text, lines := f.remedy(m)
		if withoutPort(m.URL) {
			text, lines = cmp.Or(text, "it names no port, so "+m.Port+" was tried"), f.withPorts(m)
		}
		if len(lines) == 0 {
			continue
		}
		if why == "" {
			why = "; " + m.URL + ": " + text
		}
		for _, line := range lines {
			if !slices.Contains(fix, line) {
				fix = append(fix, line)
			}
		}
	}
	if len(fix) == 0 {
		fix = []string{logFix}
	}
	return why, fix
}

// remedy is what to do about a member.
func (f Facts) remedy(m Member) (text string, fix []string) {
	e, text := f.Status.Etcd, string(m.Trouble)
	switch m.Trouble {
	case NoAddress:
		return text, []string{printable.Command("getent", "hosts", m.Host) +
			"   # must tell it: see /etc/hosts and /etc/resolv.conf"}
	case NoRoute:
		return text, []string{printable.Command("ip", "route", "get", m.Host) + "   # which route should lead there?"}
	case Dead:
		return text, append(f.ownDrop(m), printable.Command("ping", m.Host)+"   # is it up? what is between here and there?")
	case Filtered:
		fix = append(f.ownDrop(m), f.usualPort(m)...)
		return text, append(fix, f.allow(m)+"   # on "+m.Host+", or the like on what is between")
	case Refused:
		fix = append(f.ownDrop(m), f.usualPort(m)...)
		return text, append(fix, "systemctl start etcd   # on "+m.Host+", where then ss -tln must show port "+m.Port+
			", and not at 127.0.0.1 alone (etcd's --listen-client-urls)")
	case SpeaksTLS:
		fix = []string{f.otherEndpoint(m, "https", m.Host, m.Port)}
		if e.CAFile == "" {
			fix = append(fix, "with --etcd-cafile=FILE beside it, unless this system knows the authority of its certificate")
		}
		return text, fix
	case SpeaksPlain:
		return text, []string{f.otherEndpoint(m, "http", m.Host, m.Port)}
	case UnknownSigner:
		by := strconv.QuoteToASCII(m.Issuer)
		if e.CAFile == "" {
			return text, []string{
				"restart flanneld with --etcd-cafile=FILE   # FILE: the authority " + by + ", in PEM",
			}
		}
		return text, []string{"put the authority " + printable.Word(m.Issuer) + " into " + printable.Word(e.CAFile) +
			"; " + used(e.CAFile), printable.Command("openssl", "x509", "-noout", "-subject", "-in", e.CAFile) +
			"   # shows the one that is in it"}
	case OtherName:
		for _, name := range m.Names {
			if ip, err := netip.ParseAddr(name); name != "localhost" && (err != nil || !ip.IsLoopback()) {
				fix = append(fix, f.otherEndpoint(m, "https", name, m.Port))
				break
			}
		}
		return text + ", but for " + strings.Join(m.Names, ", "), append(fix, "or give that etcd a certificate for "+
			printable.Word(m.Host)+", as its --cert-file")
	case RefusesClient:
		if e.CertFile == "" {
			return text, []string{"restart flanneld with --etcd-certfile=FILE --etcd-keyfile=FILE   # of an authority in " +
				"etcd's --trusted-ca-file"}
		}
		return text, []string{"put a certificate into " + printable.Word(e.CertFile) + " (its key: " +
			printable.Word(e.KeyFile) + ") of an authority in etcd's --trusted-ca-file; " + used(e.CertFile),
			printable.Command("openssl", "x509", "-noout", "-issuer", "-dates", "-in", e.CertFile) + "   # shows the one there"}
	}
	if m.UsualPort {
		return "it answers, but not as etcd answers its clients", f.usualPort(m)
	}
	if m.Err != nil {
		return m.Err.Error(), []string{logFix}
	}
	return "", nil
}

// withPorts has flanneld ask at etcd's own port wherever an endpoint names none. What
// else is wrong counts only where it is about the member's host: at the port that was
// tried there may be anybody.
func (f Facts) withPorts(m Member) (fix []string) {
	all := slices.Clone(f.Status.Etcd.Endpoints)
	for i, endpoint := range all {
		if u, err := url.Parse(endpoint); err == nil && withoutPort(endpoint) {
			u.Host += ":" + clientPort
			all[i] = u.String()
		}
	}
	switch m.Port = clientPort; m.Trouble {
	case NoAddress, NoRoute, Dead:
		_, fix = f.remedy(m)
	}
	return append([]string{restartWith(all) + "   # etcd's own port"}, fix...)
}

func withoutPort(endpoint string) bool {
	u, err := url.Parse(endpoint)
	return err == nil && u.Port() == ""
}

// usualPort names etcd's own port where somebody listens there.
func (f Facts) usualPort(m Member) []string {
	if !m.UsualPort || withoutPort(m.URL) {
		return nil
	}
	scheme, _, _ := strings.Cut(m.URL, "://")
	return []string{f.otherEndpoint(m, scheme, m.Host, clientPort) + "   # somebody listens there"}
}

// otherEndpoint has flanneld ask elsewhere in place of one of its members.
func (f Facts) otherEndpoint(m Member, scheme, host, port string) string {
	all := slices.Clone(f.Status.Etcd.Endpoints)
	for i, endpoint := range all {
		if endpoint == m.URL {
			all[i] = scheme + "://" + net.JoinHostPort(host, port)
		}
	}
	return restartWith(all)
}

func restartWith(endpoints []string) string {
	return "restart flanneld with " + printable.Word("--etcd-endpoints="+strings.Join(endpoints, ","))
}

// allow lets this host in where a member's firewall does not.
func (f Facts) allow(m Member) string {
	args := []string{"-I", "INPUT", "-p", "tcp", "--dport", m.Port}
	if m.From.IsValid() {
		args = append(args, "-s", m.From.String())
	}
	family := inet.IPv4
	if m.From.IsValid() {
		family = inet.Of(m.From)
	}
	return printable.Command(dialects[family].iptables, append(args, "-j", "ACCEPT")...)
}

// ownDrop names a rule of this host in the way to a member.
func (f Facts) ownDrop(m Member) (fix []string) {
	dst, err := netip.ParseAddr(m.Host)
	port, _ := strconv.Atoi(m.Port)
	out, known := f.holder(m.From)
	if err != nil || !known {
		return nil
	}
	packet := rules.Packet{Out: out, Src: m.From, Dst: dst, Protocol: "tcp", DstPort: port, State: "NEW"}
	for _, v := range f.drops(crossing{packet: packet, path: rules.Sent}) {
		switch {
		case !byIPTables(v.Table):
			fix = append(fix, insertRule(v, dialects[inet.Of(dst)].nft, "daddr", m.Host, "tcp", "dport", m.Port, "accept"))
		case v.Rule != nil:
			fix = append(fix, insert(v, "-p", "tcp", "--dport", m.Port, "-d", m.Host, "-j", "ACCEPT")+
				"   # in front of this host's own: "+iptables.Show(*v.Rule))
		default:
			fix = append(fix, insert(v, "-p", "tcp", "--dport", m.Port, "-d", m.Host, "-j", "ACCEPT")+
				"   # this host's own policy drops it")
		}
	}
	return fix
}
