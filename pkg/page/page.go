// Package page shows a running flanneld to people who look rather than read: one page of
// HTML, made on the server, that works without scripts and asks for nothing but itself.
//
// It knows what a status.Status says. Text in that may come from the store, from the kernel
// or from other programs: package page has one way to write text, which escapes it. The
// standard library's html/template is not used: it looks methods up by name, for which the
// linker would keep every exported method of the program.
package page

import (
	"context"
	"crypto/sha256"
	_ "embed" // the style and the script
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"k8s.io/klog/v2"

	"flanneld/pkg/condition"
	"flanneld/pkg/recent"
	"flanneld/pkg/status"
)

//go:embed style.css
var style literal

//go:embed script.js
var script literal

// policy allows the page its own style and script, a picture that is a part of it, and to be
// fetched again; and nothing else.
var policy = fmt.Sprintf("default-src 'none'; style-src '%s'; script-src '%s'; img-src data:; connect-src 'self'; "+
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'", hash(style), hash(script))

func hash(l literal) string {
	sum := sha256.Sum256([]byte(l))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// Handler answers with the page of a host, by what ask tells of it, which serves all who ask
// within a second.
func Handler(host string, ask func(context.Context) (status.Status, error)) http.Handler {
	latest := recent.New(func(ctx context.Context) ([]byte, error) {
		s, err := ask(ctx)
		if err != nil {
			return nil, err
		}
		return Render(host, s), nil
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", policy)
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		text, err := latest.Get(r.Context())
		if err != nil {
			klog.V(1).InfoS("Cannot show the page", "err", err)
			http.Error(w, "flanneld does not answer just now: try again, or type: flanneld status",
				http.StatusServiceUnavailable)
			return
		}
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Length", strconv.Itoa(len(text)))
		_, _ = w.Write(text)
	})
}

// Bounds of what is listed, whatever the size of the cluster.
const (
	mostConditions = 40
	mostWrong      = 50
	mostPeers      = 250
	mostProbes     = 240
	changesShown   = 8
	mostChanges    = 50
)

// page is one that is being written.
type page struct {
	markup
	host  string
	s     status.Status
	roots condition.List // what is wrong of itself
	peers []status.Peer  // each host's beside each other
	wrong []status.Peer
}

// Render is the page of a host. Whatever s holds, it is HTML of a bounded size.
func Render(host string, s status.Status) []byte {
	p := &page{host: host, s: s, roots: s.Conditions.Roots(), peers: status.ByHost(s.Peers)}
	for _, x := range p.peers {
		if !x.Right() {
			p.wrong = append(p.wrong, x)
		}
	}
	how := p.state()
	p.raw(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<link id="icon" rel="icon" href="`, how.favicon, `">
`)
	p.in("title", host+": "+how.word+" – flanneld")
	p.raw("\n<style>", style, "</style>\n</head>\n<body>\n", `<div id="page">`, "\n")
	p.header(how)
	p.raw("<main>\n")
	p.tiles()
	p.problems()
	p.raw(`<div class="columns"><div>`, "\n")
	p.reach()
	p.probes()
	p.raw("</div><div>\n")
	p.facts()
	p.changes()
	p.raw("</div></div>\n</main>\n<footer>")
	p.in("p", "As of "+p.s.Time.Format("2006-01-02 15:04:05 MST")+".")
	p.raw(`<p>The same for a terminal: <code>flanneld status</code>. What is wrong, and how to mend it: ` +
		`<code>flanneld check</code>.</p></footer>` + "\n</div>\n" +
		`<p id="live" role="status"><noscript>Reload this page to see what is new.</noscript></p>` + "\n")
	p.raw("<script>", script, "</script>\n</body>\n</html>\n")
	return p.Bytes()
}

// look is how a state is shown: by a word, a shape and a colour, each of which suffices.
type look struct {
	word          string
	class         literal
	icon, favicon literal
}

const (
	svg     = `<svg class="icon" viewBox="0 0 16 16" aria-hidden="true">`
	favicon = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
	white   = " fill='none' stroke='white' stroke-width='2'/%3E%3C/svg%3E"
)

var (
	good = look{
		class:   "good",
		icon:    svg + `<circle cx="8" cy="8" r="7.5"/><path d="M4.5 8.4 7 10.8l4.6-5.2"/></svg>`,
		favicon: favicon + "%3Ccircle cx='8' cy='8' r='8' fill='%231a7f37'/%3E%3Cpath d='M4 8.4 7 11l5-6'" + white,
	}
	fair = look{
		class:   "fair",
		icon:    svg + `<path class="solid" d="M8 .8 15.8 15H.2z"/><path d="M8 6v4.2M8 12v1.2"/></svg>`,
		favicon: favicon + "%3Cpath d='M8 0 16 15H0z' fill='%23bf8700'/%3E%3Cpath d='M8 5v5M8 11.5V13'" + white,
	}
	bad = look{
		class: "bad",
		icon: svg + `<path class="solid" d="M5 .5h6L15.5 5v6L11 15.5H5L.5 11V5z"/>` +
			`<path d="m5.2 5.2 5.6 5.6m0-5.6-5.6 5.6"/></svg>`,
		favicon: favicon + "%3Cpath d='M5 0h6l5 5v6l-5 5H5l-5-5V5z' fill='%23cf222e'/%3E%3Cpath d='m5 5 6 6m0-6-6 6'" + white,
	}
)

func (l look) as(word string) look {
	l.word = word
	return l
}

// state is the host's in a word or two.
func (p *page) state() look {
	switch d := p.s.Daemon; {
	case d == nil || !d.Ready:
		return bad.as("not ready")
	case slices.ContainsFunc(p.roots, func(c condition.Condition) bool { return c.Severity == condition.Error }):
		return fair.as("ready, with errors")
	case len(p.roots)+len(p.wrong) > 0 || p.unwell() > 0:
		return fair.as("ready, with warnings")
	}
	return good.as("ready")
}

// age is how long something has been; "" where that is not known.
func (p *page) age(since time.Time) string {
	if since.IsZero() {
		return ""
	}
	return status.Short(max(0, p.s.Time.Sub(since)))
}
