package bench

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// The plot: time over leases, both logarithmic, so that what grows with the square is twice
// as steep as what grows in proportion.
const (
	left, right, top, bottom       = 70, 500, 20, 350 // of the area, in pixels
	fewest, most, fastest, slowest = 200, 25000, 1, 300000
)

// lines are those of the plot, by the names of their points.
var lines = []struct{ of, label, class string }{
	{"flannel", "flannel 0.28", "f"},
	{"host-gw, plain routes", "ip -batch, plain routes", "p"},
	{"host-gw, flanneld", "flanneld", "d"},
	{"host-gw, nexthop objects", "ip -batch, nexthop objects", "n"},
}

// growth draws how the time of a cold start grows with the number of leases, on host-gw.
func (r run) growth() string {
	var b strings.Builder
	fmt.Fprint(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 400" font-family="Helvetica, Arial, sans-serif" role="img"`+
		` aria-label="Time of a cold start over the number of leases, for flanneld, ip -batch and flannel">
<style>text{fill:#1f2328;font-size:13px}.bg{fill:#fff}.g{stroke:#d1d9e0}.l{fill:none;stroke-width:2.5}.e{text-anchor:end}.m{text-anchor:middle}
.d{stroke:#0969da}.p{stroke:#9a6700}.n{stroke:#1a7f37}.f{stroke:#cf222e}circle{stroke-width:2.5;fill:#fff}
@media (prefers-color-scheme:dark){text{fill:#f0f6fc}.bg,circle{fill:#0d1117}.g{stroke:#3d444d}.d{stroke:#4493f8}.p{stroke:#d29922}.n{stroke:#3fb950}.f{stroke:#f85149}}</style>
<rect class="bg" width="720" height="400"/>
`)
	for _, tick := range []struct {
		ms   float64
		text string
	}{{1, "1 ms"}, {10, "10 ms"}, {100, "100 ms"}, {1000, "1 s"}, {10000, "10 s"}, {100000, "100 s"}} {
		_, y := at(fewest, tick.ms)
		fmt.Fprintf(&b, "<path class=\"g\" d=\"M%d %.1fH%d\"/><text class=\"e\" x=\"%d\" y=\"%.1f\">%s</text>\n", left, y, right, left-8, y+4, tick.text)
	}
	for _, n := range []int{250, 1000, 4000, 20000} {
		x, _ := at(float64(n), fastest)
		fmt.Fprintf(&b, "<path class=\"g\" d=\"M%.1f %dV%d\"/><text class=\"m\" x=\"%.1f\" y=\"%d\">%s</text>\n", x, top, bottom, x, bottom+20, thousands(n))
	}
	fmt.Fprintf(&b, "<text class=\"m\" x=\"%d\" y=\"%d\">leases, host-gw</text>\n", (left+right)/2, bottom+40)
	labelled := math.Inf(-1) // the lowest place of a label so far
	for _, l := range r.ends() {
		var path, dots strings.Builder
		for i, p := range l.points {
			x, y := at(float64(p.Leases), p.Ms)
			fmt.Fprintf(&path, "%c%.1f %.1f", "ML"[min(i, 1)], x, y)
			fmt.Fprintf(&dots, "<circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\"/>", l.class, x, y)
		}
		end := l.points[len(l.points)-1]
		x, y := at(float64(end.Leases), end.Ms)
		labelled = max(y+4, labelled+16)
		fmt.Fprintf(&b, "<path class=\"l %s\" d=\"%s\"/>%s<text x=\"%.1f\" y=\"%.1f\">%s, %s</text>\n",
			l.class, path.String(), dots.String(), x+12, labelled, l.label, seconds(end.Ms))
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// drawn is a line with its points, from left to right.
type drawn struct {
	label, class string
	points       []point
}

// ends are the lines that the run has, by where they end: the highest first.
func (r run) ends() (all []drawn) {
	for _, l := range lines {
		d := drawn{label: l.label, class: l.class}
		for _, t := range r {
			for _, p := range t.Points {
				if p.Line == l.of {
					d.points = append(d.points, p)
				}
			}
		}
		slices.SortFunc(d.points, func(a, b point) int { return a.Leases - b.Leases })
		if len(d.points) > 0 {
			all = append(all, d)
		}
	}
	slices.SortFunc(all, func(a, b drawn) int { return cmp.Compare(b.points[len(b.points)-1].Ms, a.points[len(a.points)-1].Ms) })
	return all
}

// at is where a time at a number of leases lies.
func at(leases, ms float64) (x, y float64) {
	part := func(v, from, to float64) float64 { return math.Log(v/from) / math.Log(to/from) }
	return left + (right-left)*part(leases, fewest, most), bottom - (bottom-top)*part(ms, fastest, slowest)
}

func seconds(ms float64) string {
	if ms < 1000 {
		return figure(ms) + " ms"
	}
	return figure(ms/1000) + " s"
}
