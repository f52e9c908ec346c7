package page

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"flanneld/pkg/condition"
	"flanneld/pkg/printable"
	"flanneld/pkg/status"
)

func (p *page) header(how look) {
	p.raw(`<header class="`, how.class, `"><div>`)
	version, up := "", ""
	if d := p.s.Daemon; d != nil {
		version, up = d.Version, p.age(d.Started)
	}
	p.in(`p class="brand"`, strings.TrimSpace("flanneld "+version))
	p.in("h1", p.host)
	var about []string
	for _, h := range p.s.Halves() {
		if h.Lease != nil {
			about = append(about, h.Lease.Subnet.String())
		}
	}
	if n := p.s.Network; n != nil {
		about = append(about, n.Backend)
	}
	if up != "" {
		about = append(about, "up "+up)
	}
	p.in(`p class="about"`, strings.Join(about, " · "))
	p.raw(`</div><p class="state">`, how.icon)
	p.in("strong", how.word)
	p.raw("</p></header>\n")
}

// tile shows a figure and what it is of.
func (p *page) tile(how look, title, figure, note string) {
	p.raw(`<li class="`, how.class, `">`)
	p.in(`span class="of"`, title)
	p.raw(`<span class="figure">`, how.icon)
	p.text(figure)
	p.raw("</span>")
	p.in(`span class="note"`, note)
	p.raw("</li>\n")
}

func (p *page) tiles() {
	p.raw(`<ul class="tiles" aria-label="At a glance">`, "\n")
	how, right := good, len(p.peers)-len(p.wrong)
	if len(p.wrong) > 0 {
		how = fair
	}
	p.tile(how, "Peers in place", fmt.Sprintf("%d of %d", right, len(p.peers)), "routes and entries of the kernel")
	p.probesTile()
	state, well := p.s.EtcdState()
	if how = good; !well {
		how = bad
	}
	note := "no member has answered yet"
	if e := p.s.Etcd; e.Member != "" {
		note = "by " + e.Member
	}
	p.tile(how, "etcd", state, note)
	switch l := p.s.Lease; {
	case l == nil:
		p.tile(bad, "Lease", "none", "this host has no subnet")
	case l.Expires.IsZero():
		p.tile(good, "Lease", "reserved", "without expiry")
	case !l.Expires.After(p.s.Time):
		p.tile(bad, "Lease", "expired", p.age(l.Expires)+" ago")
	default:
		p.tile(good, "Lease", status.Short(l.Expires.Sub(p.s.Time)), "left, and renewed before its end")
	}
	p.raw("</ul>\n")
}

// problems are the conditions that do not follow from others, with what mends them.
func (p *page) problems() {
	if len(p.roots) == 0 {
		p.raw(`<section id="problems" class="calm"><h2>Problems</h2><p class="none">`)
		if d := p.s.Daemon; d != nil && d.Ready {
			p.raw(good.icon, "None is known.")
		} else if d != nil {
			p.text("Not ready: " + d.Reason)
		}
		p.raw("</p></section>\n")
		return
	}
	p.raw(`<section id="problems"><h2>Problems</h2>`, "\n")
	p.raw(`<ul>`, "\n")
	for _, c := range p.roots[:min(len(p.roots), mostConditions)] {
		p.problem(c)
	}
	p.raw("</ul>\n")
	if more := len(p.roots) - mostConditions; more > 0 {
		p.in("p", fmt.Sprintf("And %d more: flanneld status has them all.", more))
	}
	p.raw(`<p class="hint">To follow a packet's way and see what mends it, type on this host: `,
		`<code>flanneld check</code></p></section>`, "\n")
}

func (p *page) problem(c condition.Condition) {
	how := fair
	if c.Severity == condition.Error {
		how = bad
	}
	p.raw(`<li class="`, how.class, `">`, how.icon, "<div>")
	p.in(`p class="message"`, c.Text())
	if c.Fix != "" {
		p.raw(`<p class="fix">To mend it, type: `)
		p.in("code", c.Fix)
		p.raw("</p>")
	}
	p.raw(`<p class="meta">`)
	p.in(`span class="code"`, string(c.Code))
	p.text(" · " + string(c.Severity))
	if !c.Since.IsZero() {
		p.text(" since ")
		p.when(c.Since)
		p.text(" (" + p.age(c.Since) + ")")
	}
	if about := c.Code.About(); about != "" {
		p.text(". " + about)
	}
	p.raw("</p></div></li>\n")
}

// when is a time of the day; with the day, where that is another one than now.
func (p *page) when(t time.Time) {
	layout := "15:04:05"
	if t = t.In(p.s.Time.Location()); t.Format(time.DateOnly) != p.s.Time.Format(time.DateOnly) {
		layout = "01-02 15:04"
	}
	p.raw("<time")
	p.attribute("datetime", t.Format(time.RFC3339))
	p.raw(">")
	p.text(t.Format(layout))
	p.raw("</time>")
}

// facts are this host's.
func (p *page) facts() {
	p.raw(`<section id="host"><h2>This host</h2><dl>`, "\n")
	fact := func(name, value string) {
		if value != "" {
			p.in("dt", name)
			p.in("dd", value)
			p.raw("\n")
		}
	}
	each := func(name string, value func(status.Half) string) {
		for _, h := range p.s.Halves() {
			fact(name, value(h))
		}
	}
	each("Network", func(h status.Half) string {
		if n := h.Network; n != nil {
			return fmt.Sprintf("%v in subnets of /%d, backend %s", n.Network, n.SubnetLen, n.Backend)
		}
		return ""
	})
	each("Subnet", func(h status.Half) string {
		if l := h.Lease; l != nil {
			return fmt.Sprintf("%v, %s", l.Subnet, status.Expiry(l.Expires, p.s.Time))
		}
		return ""
	})
	if mtu := p.s.MTU(); mtu > 0 {
		fact("MTU", fmt.Sprintf("%d bytes for containers", mtu))
	}
	each("Interface", func(h status.Half) string {
		if e := h.Host; e != nil {
			return fmt.Sprintf("%s, %v, MTU %d", e.Interface, e.Address, e.MTU)
		}
		return ""
	})
	each("Public IP", func(h status.Half) string {
		if h.Host != nil {
			return h.Host.PublicIP.String()
		}
		return ""
	})
	each("Device", func(h status.Half) string {
		if d := h.Device; d != nil {
			return d.Words()
		}
		return ""
	})
	member, _ := p.s.EtcdWords()
	fact("etcd", member)
	if d := p.s.Daemon; d != nil && !d.Applied.IsZero() {
		fact("Kernel", "looked at "+p.age(d.Applied)+" ago")
	}
	p.raw("</dl></section>\n")
}

// group is peers that are reached alike.
type group struct{ way, backend string }

// reach shows by which ways peers are reached, and those that are not as they should be.
func (p *page) reach() {
	p.raw(`<section id="peers"><h2>Peers</h2>`, "\n")
	if len(p.peers) == 0 {
		p.raw(`<p class="none">No other host has a lease.</p></section>`, "\n")
		return
	}
	p.bar(len(p.peers)-len(p.wrong), len(p.wrong))
	all, wrong := map[group]int{}, map[group]int{}
	for _, x := range p.peers {
		g := group{printable.Bounded(x.Reached(), longestName), printable.Bounded(p.s.BackendOf(x), longestName)}
		all[g]++
		if !x.Right() {
			wrong[g]++
		}
	}
	var groups []group
	for g := range all {
		groups = append(groups, g)
	}
	slices.SortFunc(groups, func(a, b group) int {
		return cmp.Or(cmp.Compare(all[b], all[a]), cmp.Compare(a.way, b.way), cmp.Compare(a.backend, b.backend))
	})
	p.raw(`<table><caption class="unseen">Peers by the way in which they are reached</caption><thead><tr>`,
		`<th scope="col">Reached</th><th scope="col">Backend</th><th scope="col" class="n">Peers</th>`,
		`<th scope="col" class="n">Wrong</th></tr></thead><tbody>`, "\n")
	rest, restWrong := 0, 0
	for i, g := range groups {
		if i >= mostGroups {
			rest, restWrong = rest+all[g], restWrong+wrong[g]
			continue
		}
		p.group(g, all[g], wrong[g])
	}
	if rest > 0 {
		p.group(group{"otherwise", ""}, rest, restWrong)
	}
	p.raw("</tbody></table>\n")
	if len(p.wrong) > 0 {
		p.raw(`<h3>Not in place</h3>`, "\n")
		p.table("Peers that are not in place", p.wrong, mostWrong)
	}
	p.raw(`<details id="all"><summary>All peers</summary>`, "\n")
	p.raw(`<p id="filter" hidden><label>Show only <input type="search" autocomplete="off" placeholder="172.7.22">`,
		"</label></p>\n")
	p.table("All peers", p.peers, mostPeers)
	p.raw("</details></section>\n")
}

// Bounds of groups: what leases say of their backend is for their hosts to choose.
const (
	mostGroups  = 12
	longestName = 64 // bytes
)

// Cells of figures.
const (
	plainCell literal = `td class="n"`
	wrongCell literal = `td class="n wrong"`
)

func (p *page) group(g group, all, wrong int) {
	p.raw("<tr>")
	p.in("td", g.way)
	p.in("td", cmp.Or(g.backend, "-"))
	p.in(plainCell, strconv.Itoa(all))
	if wrong > 0 {
		p.in(wrongCell, strconv.Itoa(wrong))
	} else {
		p.in(plainCell, "0")
	}
	p.raw("</tr>\n")
}

// bar shows how many of all are right.
func (p *page) bar(right, wrong int) {
	p.raw(`<svg class="bar" viewBox="0 0 1000 10" preserveAspectRatio="none" role="img"`)
	p.attribute("aria-label", fmt.Sprintf("%d peers in place, %d not", right, wrong))
	part := 1000 * right / (right + wrong)
	if wrong > 0 {
		part = min(part, 990) // one of thousands is seen, too
	}
	p.raw(`><rect class="right" height="10"`)
	p.attribute("width", strconv.Itoa(part))
	p.raw(`/><rect class="wrong" height="10"`)
	p.attribute("x", strconv.Itoa(part))
	p.attribute("width", strconv.Itoa(1000-part))
	p.raw("/></svg>\n")
}

// table lists the first of some peers, and says how many more there are.
func (p *page) table(caption string, peers []status.Peer, most int) {
	p.raw("<table>")
	p.in(`caption class="unseen"`, caption)
	p.raw(`<thead><tr><th scope="col">Peer</th><th scope="col">Reached</th><th scope="col">Kernel</th>`,
		`<th scope="col" class="n">Since</th></tr></thead><tbody>`, "\n")
	for _, x := range peers[:min(len(peers), most)] {
		p.raw(`<tr><th scope="row">`)
		p.text(x.Subnet.String())
		p.in("small", address(x.PublicIP))
		p.raw("</th>")
		p.raw("<td>")
		p.text(x.Reached())
		p.in("small", p.s.BackendOf(x))
		p.raw("</td>")
		switch {
		case x.Right():
			p.in("td", cmp.Or(x.Kernel, "-"))
		case x.Kernel == "":
			p.in(`td class="wrong"`, "no way leads there")
		default:
			p.in(`td class="wrong"`, x.Kernel)
		}
		p.in(plainCell, cmp.Or(p.age(x.Since), "-"))
		p.raw("</tr>\n")
	}
	p.raw("</tbody></table>\n")
	if more := len(peers) - most; more > 0 {
		p.in("p", fmt.Sprintf("And %d more: flanneld status has them all.", more))
	}
}

func address(a netip.Addr) string {
	if !a.IsValid() {
		return "says no address"
	}
	return a.String()
}

// changes are the latest, newest first.
func (p *page) changes() {
	all := p.s.Changes[:min(len(p.s.Changes), mostChanges)]
	p.raw(`<section id="changes"><h2>Last changes</h2>`, "\n")
	if len(all) == 0 {
		p.raw(`<p class="none">None since flanneld was started.</p></section>`, "\n")
		return
	}
	first := all[:min(len(all), changesShown)]
	p.list(first)
	if rest := all[len(first):]; len(rest) > 0 {
		p.raw(`<details id="more-changes">`)
		p.in("summary", fmt.Sprintf("%d more", len(rest)))
		p.list(rest)
		p.raw("</details>\n")
	}
	p.raw("</section>\n")
}

func (p *page) list(all []status.Change) {
	p.raw("<ol>\n")
	for _, c := range all {
		p.raw("<li>")
		p.when(c.Time)
		p.in("span", c.Text)
		p.raw("</li>\n")
	}
	p.raw("</ol>\n")
}
