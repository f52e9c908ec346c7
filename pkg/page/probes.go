package page

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	"flanneld/pkg/status"
)

// level is how a cell of the heat map is shown, and what it means.
type level struct {
	class literal
	about string
}

// The levels, from well to worse. A cell's figure says the same as its colour.
var (
	near    = level{"near", "less than 1 ms"}
	mid     = level{"mid", "less than 10 ms"}
	far     = level{"far", "10 ms and more"}
	narrow  = level{"narrow", "full packets do not get there: so many bytes do"}
	some    = level{"some", "less than half are lost"}
	most    = level{"most", "half and more are lost"}
	lost    = level{"lost", "all are lost"}
	unasked = level{"unasked", "not asked yet"}
)

// levelOf says how a peer's probes are, and the figure in its cell.
func levelOf(x status.Probe) (level, string) {
	switch {
	case x.Sent <= 0:
		return unasked, "–"
	case x.Lost >= x.Sent:
		return lost, "100%"
	case 2*x.Lost >= x.Sent:
		return most, percent(x)
	case x.Lost > 0:
		return some, percent(x)
	case x.Narrow:
		return narrow, strconv.Itoa(x.PathMTU)
	}
	switch ms := 1000 * x.RTT; {
	case ms < 1:
		return near, fmt.Sprintf("%.1f", max(ms, 0))
	case ms < 10:
		return mid, fmt.Sprintf("%.1f", ms)
	default:
		return far, fmt.Sprintf("%.0f", min(ms, 99_999))
	}
}

// percent is how much of what was sent is lost: from 1 to 99, as neither none nor all is.
func percent(x status.Probe) string {
	return fmt.Sprintf("%d%%", min(max(100*x.Lost/x.Sent, 1), 99))
}

// unwell is how many peers are not well, by the probes.
func (p *page) unwell() int {
	if p.s.Probes == nil {
		return 0
	}
	return len(p.s.Probes.Peers) - p.s.Probes.Count()[status.Well]
}

func (p *page) probesTile() {
	const title = "Probed peers well"
	if p.s.Probes == nil {
		p.tile(look{class: "off"}, title, "off", "no peer is probed")
		return
	}
	all, unwell, how := len(p.s.Probes.Peers), p.unwell(), good
	if unwell > 0 {
		how = fair
	}
	p.tile(how, title, fmt.Sprintf("%d of %d", all-unwell, all), "a sample, every "+every(p.s.Probes.Every))
}

func every(seconds float64) string {
	return status.Short(time.Duration(min(max(seconds, 0), 1e6) * float64(time.Second)))
}

// words are all that is known of a peer's probes.
func (p *page) words(x status.Probe) string {
	text := fmt.Sprintf("%v, %s: %d of %d packets lost", x.Subnet, address(x.PublicIP), x.Lost, x.Sent)
	if x.RTT > 0 {
		text += ", answers take " + milliseconds(x.RTT)
	}
	switch {
	case x.Narrow:
		text += fmt.Sprintf(", only packets of up to %d bytes get there", x.PathMTU)
	case x.PathMTU > 0:
		text += ", full packets get there"
	}
	if !x.Well() && !x.Since.IsZero() {
		text += ", for " + p.age(x.Since)
	}
	return text
}

func milliseconds(seconds float64) string {
	switch ms := 1000 * seconds; {
	case ms < 10:
		return fmt.Sprintf("%.2f ms", ms)
	default:
		return fmt.Sprintf("%.0f ms", min(ms, 1e7))
	}
}

// probes is the heat map. Peers stand by their subnets, so that each stays in its place.
func (p *page) probes() {
	p.raw(`<section id="probes"><h2>Probes of a sample of peers</h2>`, "\n")
	if p.s.Probes == nil {
		p.raw(`<p class="none">Probes are off: nothing is known of what becomes of packets on the way.</p></section>`, "\n")
		return
	}
	all := p.s.Probes.Peers
	if len(all) == 0 {
		p.raw(`<p class="none">No peer was probed yet.</p></section>`, "\n")
		return
	}
	shown := all[:min(len(all), mostProbes)] // the worst come first
	bySubnet := slices.Clone(shown)
	slices.SortStableFunc(bySubnet, func(a, b status.Probe) int { return a.Subnet.Compare(b.Subnet) })
	p.raw(`<ol class="heat" aria-label="One cell for each probed peer">`, "\n")
	for _, x := range bySubnet {
		l, figure := levelOf(x)
		p.raw(`<li><span role="img" tabindex="-1" class="`, l.class, `"`)
		p.attribute("aria-label", p.words(x))
		p.raw(">")
		p.text(figure)
		p.raw("</span></li>\n")
	}
	p.raw("</ol>\n")
	if more := len(all) - len(shown); more > 0 {
		p.in("p", fmt.Sprintf("And %d more, which are no worse.", more))
	}
	p.legend()
	p.raw(`<details id="as-table"><summary>As a table</summary>`, "\n")
	p.probeTable(shown)
	p.raw("</details></section>\n")
}

func (p *page) legend() {
	p.raw(`<ul class="legend" aria-label="What the cells mean">`, "\n")
	for _, of := range []struct {
		level
		figure string
	}{
		{near, "0.4"}, {mid, "4.0"}, {far, "40"}, {narrow, "1400"}, {some, "10%"}, {most, "60%"}, {lost, "100%"},
	} {
		p.raw(`<li><span aria-hidden="true" class="`, of.class, `">`)
		p.text(of.figure)
		p.raw("</span>")
		p.text(" " + of.about)
		p.raw("</li>\n")
	}
	p.raw("</ul>\n")
}

// probeTable says the same in words, the worst first.
func (p *page) probeTable(all []status.Probe) {
	p.raw(`<table><caption class="unseen">Probed peers, the worst first</caption><thead><tr>`,
		`<th scope="col">Peer</th><th scope="col" class="n">Lost</th><th scope="col" class="n">Answer</th>`,
		`<th scope="col" class="n">Bytes</th><th scope="col" class="n">Asked</th></tr></thead><tbody>`, "\n")
	for _, x := range all {
		p.raw(`<tr><th scope="row">`)
		p.text(x.Subnet.String())
		p.in("small", address(x.PublicIP))
		p.raw("</th>")
		rtt, mtu, loss, size := "-", "-", plainCell, plainCell
		if x.RTT > 0 {
			rtt = milliseconds(x.RTT)
		}
		if x.PathMTU > 0 {
			mtu = strconv.Itoa(x.PathMTU)
		}
		if x.Lost > 0 {
			loss = wrongCell
		}
		p.in(loss, fmt.Sprintf("%d/%d", x.Lost, x.Sent))
		p.in(plainCell, rtt)
		if x.Narrow {
			size = wrongCell
		}
		p.in(size, mtu)
		p.in(plainCell, cmp.Or(p.age(x.Last), "-"))
		p.raw("</tr>\n")
	}
	p.raw("</tbody></table>\n")
}
