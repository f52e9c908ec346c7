package dist_test

import (
	"encoding/json"
	"fmt"
	"html"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestDashboardPicture: docs/img/dashboard.svg shows the panels of grafana-flanneld.json
// where Grafana puts them. The figures are an example, in which one host of four is
// started anew at two thirds of the time. UPDATE=1 draws it.
func TestDashboardPicture(t *testing.T) {
	var board struct {
		Panels []struct {
			Title, Type string
			GridPos     struct{ X, Y, W, H int }
		}
	}
	if err := json.Unmarshal([]byte(read(t, "grafana-flanneld.json")), &board); err != nil {
		t.Fatal(err)
	}
	const unit, row = 40, 30 // pixels of a column of 24, and of a row
	var b strings.Builder
	bottom := 0
	shapes := map[string]func(at float64) float64{
		"Peers by mode": standing, "Time left of each lease": falling, "Not ready": once, "Requests to etcd": busy, "Watches of etcd that broke": once,
		"WireGuard: peers without a handshake in three minutes": once, "Traffic by tunnels": busy, "Packets that udp could not carry": once,
		"Repairs": once, "Writes to the kernel": once, "Time of a pass over the kernel": busy,
		"Probes of peers that got lost": once, "Probed peers that are not well": once, "Round trips of probes": busy,
		"Time since the kernel was as it should be": func(at float64) float64 { return 1 - falling(at) },
	}
	for _, p := range board.Panels {
		x, y, w, h := p.GridPos.X*unit+4, p.GridPos.Y*row+4, p.GridPos.W*unit-8, p.GridPos.H*row-8
		bottom = max(bottom, y+h+4)
		fmt.Fprintf(&b, `<rect class="p" x="%d" y="%d" width="%d" height="%d" rx="3"/><text class="t" x="%d" y="%d"%s>%s</text>`+"\n",
			x, y, w, h, x+10, y+20, narrowed(p.Title, w-20), html.EscapeString(p.Title))
		switch p.Type {
		case "stat":
			value := "0"
			if strings.Contains(p.Title, "lease") {
				value = "21.4 h"
			}
			fmt.Fprintf(&b, `<text class="n" x="%d" y="%d">%s</text>`+"\n", x+w/2, y+h/2+26, value)
		case "timeseries":
			fmt.Fprintf(&b, `<path class="a" d="M%d %dV%dH%d"/><path class="l" d="%s"/>`+"\n", x+14, y+34, y+h-14, x+w-12, curve(shapes[p.Title], x+14, y+h-14, w-26, h-52))
		case "table":
			for j, host := range []string{"instance", "10.4.7.21:2401", "10.4.7.22:2401", "10.4.7.23:2401", "10.4.8.31:2401"} {
				cells := []string{host, "vxlan", "0.3.0", "1450"}
				if j == 0 {
					cells = []string{host, "backend", "version", "MTU"}
				}
				for k, cell := range cells {
					fmt.Fprintf(&b, `<text class="c" x="%d" y="%d">%s</text>`, x+10+k*220, y+50+j*34, cell)
				}
				b.WriteByte('\n')
			}
		}
	}
	want := fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 960 %d" font-family="Helvetica, Arial, sans-serif" role="img" aria-label="The panels of the Grafana dashboard, with figures of an example">
<style>.g{fill:#111217}.p{fill:#181b1f;stroke:#2c3235}.t{fill:#ccccdc;font-size:11px}.n{fill:#73bf69;font-size:34px;text-anchor:middle}.a{fill:none;stroke:#44494f}.l{fill:none;stroke:#73bf69;stroke-width:2}.c{fill:#ccccdc;font-size:13px}</style>
<rect class="g" width="960" height="%d"/>
%s</svg>
`, bottom, bottom, b.String())
	const picture = "../docs/img/dashboard.svg"
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(picture, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, read(t, picture)); diff != "" {
		t.Errorf("the picture is not the dashboard's: UPDATE=1 go test -run TestDashboardPicture ./dist\n%s", diff)
	}
}

// curve draws a shape over the time from 0 to 1, from the bottom left.
func curve(shape func(float64) float64, x, bottom, w, h int) string {
	var b strings.Builder
	for i := range 61 {
		at := float64(i) / 60
		fmt.Fprintf(&b, "%c%d %d", "ML"[min(i, 1)], x+int(at*float64(w)), bottom-int(shape(at)*float64(h)))
	}
	return b.String()
}

func restarting(at float64) bool { return at > 0.66 && at < 0.7 }

func standing(at float64) float64 {
	if restarting(at) {
		return 0.6
	}
	return 0.8
}

func falling(at float64) float64 { return 0.95 - 0.9*math.Mod(at+0.34, 1) }

func once(at float64) float64 {
	if restarting(at) {
		return 0.9
	}
	return 0
}

func busy(at float64) float64 {
	if restarting(at) {
		return 0.75
	}
	return 0.15 + 0.05*math.Sin(at*40)
}

// narrowed has a title that is longer than its panel take no more room than that.
func narrowed(title string, width int) string {
	if len(title)*54/10 <= width { // an estimate, with letters of 11 pixels
		return ""
	}
	return fmt.Sprintf(` textLength="%d" lengthAdjust="spacingAndGlyphs"`, width)
}
