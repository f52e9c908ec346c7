package status

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"flanneld/pkg/printable"
)

// Print shows s to people: what there is to know of this host in lines, and the
// peers in a table. Colour is for terminals.
func (s Status) Print(w io.Writer, colour bool) error {
	p := &printer{colour: colour, now: s.Time}
	p.aligned(func() {
		p.daemon(s.Daemon)
		p.halves(s)
		p.etcd(s)
		p.change(s.Daemon)
		p.probes(s.Probes)
	})
	p.conditions(s)
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
	red   = printable.Red
	green = printable.Green
	reset = printable.Reset
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

// widest bounds what widens a column for all rows, in bytes.
const widest = 64

func (p *printer) row(colour string, cells ...string) {
	p.colours = append(p.colours, colour)
	for i, c := range cells {
		most := widest
		if i == len(cells)-1 { // nothing stands behind it
			most = printable.Longest
		}
		cells[i] = printable.Bounded(c, most)
	}
	_, _ = fmt.Fprintln(p.columns, strings.Join(cells, "\t"))
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

// halves shows what there is of each family, which the addresses tell: what is the same in
// kind stands together.
func (p *printer) halves(s Status) {
	halves := s.Halves()
	each := func(label string, text func(Half) string) {
		for _, h := range halves {
			if t := text(h); t != "" {
				p.row(plain, label, t)
			}
		}
	}
	each("network", func(h Half) string {
		if n := h.Network; n != nil {
			return fmt.Sprintf("%v in subnets of /%d, backend %s", n.Network, n.SubnetLen, n.Backend)
		}
		return ""
	})
	each("subnet", func(h Half) string {
		if l := h.Lease; l != nil {
			return fmt.Sprintf("%v, %s", l.Subnet, Expiry(l.Expires, p.now))
		}
		return ""
	})
	if slices.ContainsFunc(halves, func(h Half) bool { return h.Lease != nil }) {
		p.row(plain, "MTU", fmt.Sprintf("%d for containers", s.MTU()))
	}
	each("interface", func(h Half) string {
		if e := h.Host; e != nil {
			return fmt.Sprintf("%s, %v, MTU %d", e.Interface, e.Address, e.MTU)
		}
		return ""
	})
	each("public IP", func(h Half) string {
		if h.Host != nil {
			return h.Host.PublicIP.String()
		}
		return ""
	})
	each("device", func(h Half) string {
		if d := h.Device; d != nil {
			return d.Words()
		}
		return ""
	})
}

// conditions shows what is wrong, but for what follows from something else, and
// for what keeps the daemon from being ready, which stands above already.
func (p *printer) conditions(s Status) {
	var lines []string
	unready, _ := s.Conditions.Unready()
	for _, c := range s.Conditions.Roots() {
		if s.Daemon == nil || c != unready {
			lines = append(lines, c.Text())
		}
	}
	if len(lines) > 0 {
		p.line("problems")
	}
	for _, text := range lines {
		p.text(red, "  "+printable.Bounded(text, printable.Longest))
	}
}

func (p *printer) etcd(s Status) {
	text, well := s.EtcdWords()
	colour := plain
	if !well {
		colour = red
	}
	p.row(colour, "etcd", text)
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
	header := []string{"PEER", "PUBLIC IP", "BACKEND", "REACHED", "KERNEL", "SINCE"}
	sessions := slices.ContainsFunc(s.Peers, func(x Peer) bool { return x.Session != nil })
	if sessions {
		header = append(header, "HANDSHAKE", "SENT", "RECEIVED")
	}
	p.row(plain, header...)
	for _, x := range ByHost(s.Peers) {
		colour := plain
		if !x.Right() {
			colour = red
		}
		cells := []string{
			x.Subnet.String(), address(x.PublicIP), dash(s.BackendOf(x)), x.Reached(), dash(x.Kernel), dash(p.age(x.Since)),
		}
		if sessions {
			cells = append(cells, p.session(x.Session)...)
		}
		p.row(colour, cells...)
	}
}

// session is what there is to say of a peer's.
func (p *printer) session(s *Session) []string {
	if s == nil {
		return []string{"-", "-", "-"}
	}
	last := "none yet"
	if !s.Handshake.IsZero() {
		last = p.age(s.Handshake) + " ago"
	}
	return []string{last, size(uint64(s.Sent)), size(uint64(s.Received))}
}

func (p *printer) leases(s Status) {
	leases := map[netip.Prefix]int{} // how many there are of a subnet
	for _, x := range s.Peers {
		leases[x.Subnet]++
	}
	p.row(plain, "SUBNET", "PUBLIC IP", "BACKEND", "LEASE")
	for _, x := range ByHost(s.Peers) {
		p.row(plain, x.Subnet.String(), address(x.PublicIP), dash(s.BackendOf(x)),
			p.leaseOf(x)+marks(x, leases[x.Subnet] > 1))
	}
}

// marks are what is unusual about a lease. Where it is not the only one of its subnet, only
// its key tells which it is.
func marks(x Peer, oneOfSeveral bool) (text string) {
	if x.Outside {
		text += ", outside of the network"
	}
	if x.Key != "" && oneOfSeveral {
		text += ", key " + printable.Bounded(x.Key, printable.Longest)
	}
	return text
}

// ByHost puts the rows of one lease beside each other, where the first of them is.
func ByHost(peers []Peer) []Peer {
	rank, of := map[string]int{}, func(x Peer) string { return cmp.Or(x.Key, x.Subnet.String()) }
	for i, x := range peers {
		if _, there := rank[of(x)]; !there {
			rank[of(x)] = i
		}
	}
	out := slices.Clone(peers)
	slices.SortStableFunc(out, func(a, b Peer) int { return cmp.Compare(rank[of(a)], rank[of(b)]) })
	return out
}

// PrintLeases shows the leases alone.
func (s Status) PrintLeases(w io.Writer) error {
	p := &printer{now: s.Time}
	p.aligned(func() { p.leases(s) })
	_, err := w.Write(p.out.Bytes())
	return err
}
