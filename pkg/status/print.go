package status

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// Print shows s to people: what there is to know of this host in lines, and the
// peers in a table. Colour is for terminals.
func (s Status) Print(w io.Writer, colour bool) error {
	p := &printer{colour: colour, now: s.Time}
	p.aligned(func() {
		p.daemon(s.Daemon)
		p.network(s)
		p.host(s.Host, s.Device)
		p.etcd(s.Etcd)
		p.change(s.Daemon)
	})
	if len(s.Problems) > 0 {
		p.line("problems")
		for _, text := range s.Problems {
			p.text(red, "  "+printable(text))
		}
	}
	p.line("")
	p.aligned(func() { p.peers(s) })
	_, err := w.Write(p.out.Bytes())
	return err
}

// printer gathers lines. Colours go around whole lines, as they would count in
// the width of a column.
type printer struct {
	out     bytes.Buffer
	colour  bool
	now     time.Time
	columns *tabwriter.Writer
	colours []string // of the lines in columns
}

const (
	plain = ""
	red   = "\x1b[31m"
	green = "\x1b[32m"
	reset = "\x1b[0m"
)

func (p *printer) line(text string) { p.text(plain, text) }

func (p *printer) text(colour, text string) {
	if p.colour && colour != plain {
		text = colour + text + reset
	}
	p.out.WriteString(text + "\n")
}

// aligned puts what f writes by row into columns.
func (p *printer) aligned(f func()) {
	var text bytes.Buffer
	p.columns, p.colours = tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0), nil
	f()
	_ = p.columns.Flush() // into memory
	i := 0
	for line := range strings.Lines(text.String()) {
		p.text(p.colours[i], strings.TrimRight(line, " \n"))
		i++
	}
}

func (p *printer) row(colour string, cells ...string) {
	p.colours = append(p.colours, colour)
	for i, c := range cells {
		cells[i] = printable(c)
	}
	_, _ = fmt.Fprintln(p.columns, strings.Join(cells, "\t"))
}

// printable is a text from outside as it may stand on a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) {
			return '?'
		}
		return r
	}, s)
}

func (p *printer) daemon(d *Daemon) {
	if d == nil {
		return
	}
	text := fmt.Sprintf("%s, pid %d, up %s", d.Version, d.PID, p.age(d.Started))
	if d.Ready {
		p.row(green, "flanneld", text+", ready")
		return
	}
	p.row(red, "flanneld", text)
	p.row(red, "not ready", d.Reason)
}

func (p *printer) network(s Status) {
	if s.Network != nil {
		p.row(plain, "network", fmt.Sprintf("%v in subnets of /%d, backend %s", s.Network.Network, s.Network.SubnetLen, s.Network.Backend))
	}
	if l := s.Lease; l != nil {
		p.row(plain, "subnet", fmt.Sprintf("%v, %s", l.Subnet, p.expiry(l.Expires)))
		p.row(plain, "MTU", fmt.Sprintf("%d for containers", l.MTU))
	}
}

func (p *printer) host(h *Host, d *Device) {
	if h != nil {
		p.row(plain, "interface", fmt.Sprintf("%s, %v, MTU %d", h.Interface, h.Address, h.MTU))
		p.row(plain, "public IP", h.PublicIP.String())
	}
	if d != nil {
		p.row(plain, "device", fmt.Sprintf("%s, VNI %d, UDP port %d, MTU %d", d.Name, d.VNI, d.Port, d.MTU))
	}
}

func (p *printer) etcd(e Etcd) {
	member := e.Member
	if member == "" {
		member = strings.Join(e.Endpoints, ", ")
	}
	if e.API != "" {
		member += ", API " + e.API
	}
	switch {
	case e.Reads != "":
		p.row(red, "etcd", member+", cannot be read")
	case e.Writes != "":
		p.row(red, "etcd", member+", cannot be written")
	case e.Current:
		p.row(plain, "etcd", member+", current")
	default:
		p.row(plain, "etcd", member+", not current")
	}
}

func (p *printer) change(d *Daemon) {
	if d != nil && !d.Changed.IsZero() {
		p.row(plain, "last change", fmt.Sprintf("%s ago: %s", p.age(d.Changed), d.Change))
	}
}

func (p *printer) peers(s Status) {
	if len(s.Peers) == 0 {
		p.row(plain, "no other host has a lease")
		return
	}
	if s.Daemon == nil {
		p.leases(s)
		return
	}
	p.row(plain, "PEER", "PUBLIC IP", "BACKEND", "REACHED", "KERNEL", "SINCE")
	for _, x := range s.Peers {
		colour := plain
		if x.Kernel != InPlace {
			colour = red
		}
		p.row(colour, x.Subnet.String(), x.PublicIP.String(), dash(x.Backend), reached(x), dash(x.Kernel), dash(p.age(x.Since)))
	}
}

func (p *printer) leases(s Status) {
	p.row(plain, "SUBNET", "PUBLIC IP", "BACKEND", "LEASE")
	for _, x := range s.Peers {
		p.row(plain, x.Subnet.String(), x.PublicIP.String(), dash(x.Backend), p.leaseOf(x))
	}
}

func (p *printer) leaseOf(x Peer) string {
	if x.AtLatest {
		return "lease, until when is not known"
	}
	return p.expiry(x.Expires)
}

// PrintLeases shows the leases alone.
func (s Status) PrintLeases(w io.Writer) error {
	p := &printer{now: s.Time}
	p.aligned(func() { p.leases(s) })
	_, err := w.Write(p.out.Bytes())
	return err
}

func reached(p Peer) string {
	switch p.Mode {
	case Direct:
		return "direct, by " + p.Dev
	case Tunnel:
		return "tunnel, by " + p.Dev
	}
	return "no way"
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// expiry words the end of a lease.
func (p *printer) expiry(t time.Time) string {
	switch {
	case t.IsZero():
		return "reserved, without expiry"
	case !t.After(p.now):
		return "lease ended " + short(p.now.Sub(t)) + " ago"
	}
	return fmt.Sprintf("lease until %s (%s)", t.Format("2006-01-02 15:04:05"), short(t.Sub(p.now)))
}

// age is how long something has been; "" where that is not known.
func (p *printer) age(since time.Time) string {
	if since.IsZero() {
		return ""
	}
	return short(max(0, p.now.Sub(since)))
}

// short is a duration in its two greatest units: "3d4h", "23h59m", "12s".
func short(d time.Duration) string {
	d = d.Round(time.Second)
	day := 24 * time.Hour
	switch {
	case d >= day:
		return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}

// Of finds the peer that a subnet or an address belongs to.
func (s Status) Of(ip netip.Addr) (Peer, bool) {
	for _, p := range s.Peers {
		if p.PublicIP == ip || p.Subnet.Contains(ip) {
			return p, true
		}
	}
	return Peer{}, false
}
