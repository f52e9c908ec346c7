package page

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"
	"pgregory.net/rapid"

	"flanneld/pkg/condition"
	"flanneld/pkg/printable"
	"flanneld/pkg/recent"
	"flanneld/pkg/status"
)

// parsed is a page as a browser would read it.
func parsed(t interface{ Fatal(...any) }, page []byte) *html.Node {
	root, err := html.Parse(strings.NewReader(string(page)))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// within is a part of a page as text, by its id.
func within(t testing.TB, page []byte, id string) string {
	t.Helper()
	for n := range parsed(t, page).Descendants() {
		if n.Type == html.ElementNode && slices.Contains(n.Attr, html.Attribute{Key: "id", Val: id}) {
			var texts []string
			for d := range n.Descendants() {
				if text := strings.TrimSpace(d.Data); d.Type == html.TextNode && text != "" {
					texts = append(texts, text)
				}
			}
			return strings.Join(texts, " | ")
		}
	}
	t.Fatalf("no element %q in %s", id, page)
	return ""
}

func TestAnswer(t *testing.T) {
	var failure error
	asked := 0
	synctest.Test(t, func(t *testing.T) {
		handler := Handler("hdss7-21", func(context.Context) (status.Status, error) { asked++; return crowd(3, 3), failure })
		get := func() *http.Response {
			answer := httptest.NewRecorder()
			handler.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), "GET", "/", nil))
			return answer.Result()
		}
		answer := get()
		for name, want := range map[string]string{
			"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
		} {
			if got := answer.Header.Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		body, err := io.ReadAll(answer.Body)
		if err != nil || answer.StatusCode != 200 || int64(len(body)) != answer.ContentLength {
			t.Errorf("%s, %d bytes of %d, %v", answer.Status, len(body), answer.ContentLength, err)
		}
		for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "form-action 'none'", "base-uri 'none'", "connect-src 'self'"} {
			if got := answer.Header.Get("Content-Security-Policy"); !strings.Contains(got, want) || strings.Contains(got, "unsafe") || strings.Contains(got, "*") {
				t.Errorf("%s, want %s", got, want)
			}
		}
		for range 10 {
			get()
		}
		if asked != 1 {
			t.Errorf("asked %d times in a moment", asked)
		}
		time.Sleep(recent.FreshFor)
		failure = errors.New("flanneld is busy")
		answer = get()
		if body, _ := io.ReadAll(answer.Body); answer.StatusCode != 503 || string(body) != "flanneld does not answer just now: try again, or type: flanneld status\n" || answer.Header.Get("Content-Security-Policy") == "" {
			t.Errorf("%s %q", answer.Status, body)
		}
	})
}

// TestState: the worst that there is gives the word.
func TestState(t *testing.T) {
	of := func(change func(*status.Status)) status.Status {
		s := crowd(3, 3)
		change(&s)
		return s
	}
	with := func(code condition.Code) status.Status {
		return of(func(s *status.Status) { s.Conditions.Add(condition.Condition{Code: code, Message: "x"}) })
	}
	for _, tt := range []struct {
		name, want string
		s          status.Status
	}{
		{"all is well", "ready", crowd(3, 3)},
		{"nobody knows", "not ready", status.Status{}},
		{"it has just started", "not ready", of(func(s *status.Status) { s.Daemon.Ready = false })},
		{"a warning", "ready, with warnings", with(condition.LeaseIgnored)},
		{"an error", "ready, with errors", with(condition.EtcdUnreadable)},
		{"what only takes its time", "ready", with(condition.Starting)},
		{"a route is gone", "ready, with warnings", of(func(s *status.Status) { s.Peers[0].Kernel = "no route" })},
		{"one packet is lost", "ready", of(func(s *status.Status) { s.Probes.Peers[0].Lost = 1 })},
		{"packets are lost", "ready, with warnings", of(func(s *status.Status) { s.Probes.Peers[0].State = status.Lossy })},
		{"full packets are", "ready, with warnings", of(func(s *status.Status) { s.Probes.Peers[0].State = status.Narrow })},
		{"nothing is probed", "ready", of(func(s *status.Status) { s.Probes = nil })},
	} {
		page := Render("h", tt.s)
		if want := "h: " + tt.want + " – flanneld"; !strings.Contains(string(page), "<title>"+want+"</title>") || !strings.Contains(string(page), "<strong>"+tt.want+"</strong>") {
			t.Errorf("%s: no %q in %.600s", tt.name, want, page)
		}
	}
}

func TestSections(t *testing.T) {
	two := crowd(2, 0)
	two.IPv6 = &status.Half{Lease: &status.Lease{Subnet: netip.MustParsePrefix("fd00:7:0:21::/64"), MTU: 1430}}
	starting := crowd(0, 0)
	starting.Daemon.Ready, starting.Daemon.Reason, starting.Lease, starting.Changes = false, "not everything is in place yet", nil, nil
	off := crowd(1, 0)
	off.Probes = nil
	for _, tt := range []struct {
		s        status.Status
		id, want string
	}{
		{crowd(3, 3), "problems", "Problems | None is known."},
		{starting, "problems", "Problems | Not ready: not everything is in place yet"},
		{spoilt(9, 9), "problems", "| To mend it, type: | modprobe xt_comment | FirewallNotApplied | · error since | 14:26:41 | (1m30s). Firewall rules are not as they should be. |"},
		{spoilt(9, 9), "problems", "| flanneld check"},
		{crowd(3, 0), "peers", "| direct, by ens33 | vxlan | 2 | 0 | tunnel, by flannel.1 | vxlan | 1 | 0 |"},
		{spoilt(9, 9), "peers", "| Not in place | Peers that are not in place | Peer | Reached | Kernel | Since | 172.7.23.0/24 | 10.4.7.23 | direct, by ens33 | vxlan | no route | 8h49m | 172.7.27.0/24 | 10.5.7.27 | no way | host-gw | no way leads there | - |"},
		{starting, "peers", "Peers | No other host has a lease."},
		{off, "probes", "Probes of a sample of peers | Probes are off: nothing is known of what becomes of packets on the way."},
		{crowd(1, 0), "probes", "Probes of a sample of peers | No peer was probed yet."},
		{spoilt(9, 9), "probes", "Probes of a sample of peers | 0.3 | 100% | 4.6 | 0.6 | 15% | 60% | 0.2 | 0.3 | 1400 | Point"},
		{spoilt(9, 9), "as-table", "| 172.7.23.0/24 | 10.4.7.23 | 20/20 | - | - | 3s |"},
		{two, "host", "| Subnet | 172.7.21.0/24, lease until 2026-12-01 13:40:11 (23h12m) | Subnet | fd00:7:0:21::/64, reserved, without expiry | MTU | 1430 bytes for containers | Interface | ens33, 10.4.7.21, MTU 1500 |"},
		{crowd(3, 3), "changes", "Last changes | 14:09:11 | put right: ip route add 172.7.30.0/24 via 10.4.7.30 dev ens33 proto 77 | 13:47:11 | peer reached"},
		{crowd(3, 3), "more-changes", "2 more | 11-27 10:28 | external interface ens33, 10.4.7.21 |"},
		{starting, "changes", "Last changes | None since flanneld was started."},
	} {
		want := strings.TrimSuffix(tt.want, " | Point")
		if got := within(t, Render("h", tt.s), tt.id); !strings.Contains(got, want) {
			t.Errorf("%s: no %q in\n%q", tt.id, want, got)
		}
	}
}

func TestLevels(t *testing.T) {
	for _, tt := range []struct {
		x      status.Probe
		want   level
		figure string
	}{
		{status.Probe{Sent: 20, RTT: 0.0004}, near, "0.4"},
		{status.Probe{Sent: 20, RTT: 0.00104}, mid, "1.0"},
		{status.Probe{Sent: 20, RTT: 0.0123}, far, "12"},
		{status.Probe{Sent: 20, RTT: 0.0123, Narrow: true, PathMTU: 1400}, narrow, "1400"},
		{status.Probe{Sent: 1000, Lost: 1, RTT: 0.01, Narrow: true}, some, "1%"},
		{status.Probe{Sent: 20, Lost: 10, RTT: 0.01}, most, "50%"},
		{status.Probe{Sent: 1000, Lost: 999}, most, "99%"},
		{status.Probe{Sent: 20, Lost: 20, Narrow: true}, lost, "100%"},
		{status.Probe{Sent: 20, Lost: 30}, lost, "100%"},
		{status.Probe{}, unasked, "–"},
		{status.Probe{Sent: 1, RTT: -1}, near, "0.0"},
		{status.Probe{Sent: 1, RTT: 1e300}, far, "99999"},
	} {
		if l, figure := levelOf(tt.x); l != tt.want || figure != tt.figure {
			t.Errorf("%+v: %v %s, want %v %s", tt.x, l, figure, tt.want, tt.figure)
		}
	}
}

// TestCellsStayInTheirPlaces: however the probes are ordered, a peer has its place by its subnet.
func TestCellsStayInTheirPlaces(t *testing.T) {
	one, other := crowd(50, 50), crowd(50, 50)
	slices.Reverse(other.Probes.Peers)
	heat := func(s status.Status) string {
		text := string(Render("h", s))
		return text[strings.Index(text, `<ol class="heat"`):strings.Index(text, `<ul class="legend"`)]
	}
	if diff := cmp.Diff(heat(one), heat(other)); diff != "" {
		t.Error(diff)
	}
}

// TestBounded: a cluster of any size, and a store full of garbage, make a page of a bounded size.
func TestBounded(t *testing.T) {
	for _, n := range []int{0, 1, 200, 4000, 20_000} {
		s := crowd(n, n)
		page := Render("hdss7-21", s)
		t.Logf("%d peers, all well: %d bytes", n, len(page))
		if len(page) > 250_000 {
			t.Errorf("%d peers: %d bytes", n, len(page))
		}
	}
	s := crowd(4000, 4000)
	long := strings.Repeat(`"&<'>`, 1000)
	for i := range s.Peers {
		s.Peers[i].Kernel, s.Peers[i].Backend, s.Peers[i].Dev = long, fmt.Sprint(i, long), long
	}
	for range 5000 {
		s.Conditions.Add(condition.Condition{Code: condition.LeaseIgnored, Message: long, Cause: long, Fix: long, Subject: long})
		s.Changes = append(s.Changes, status.Change{Text: long})
	}
	s.Etcd.Member, s.Daemon.Reason, s.Host.Interface = long, long, long
	page := Render(long, s)
	if len(page) > 5_000_000 || strings.Count(string(page), "flanneld status has them all") != 3 {
		t.Errorf("%d bytes", len(page))
	}
	if n := strings.Count(string(page), "<tr>"); n > 1000 {
		t.Errorf("%d rows", n)
	}
	t.Logf("the longest of all texts everywhere: %d bytes", len(page))
}

// allowed are all elements of the page with their attributes.
var allowed = map[string][]string{
	"html": {"lang"}, "head": nil, "meta": {"charset", "name", "content"}, "link": {"id", "rel", "href"}, "title": nil, "style": nil, "script": nil, "noscript": nil,
	"body": nil, "main": nil, "header": {"class"}, "footer": nil, "section": {"id", "class"}, "div": {"id", "class"}, "details": {"id"}, "summary": nil,
	"h1": nil, "h2": nil, "h3": nil, "p": {"id", "class", "hidden", "role"}, "strong": nil, "small": nil, "code": nil, "label": nil,
	"input": {"type", "autocomplete", "placeholder"}, "span": {"class", "role", "tabindex", "aria-label", "aria-hidden"}, "time": {"datetime"},
	"ul": {"class", "aria-label"}, "ol": {"class", "aria-label"}, "li": {"class"}, "dl": nil, "dt": nil, "dd": nil,
	"table": nil, "caption": {"class"}, "thead": nil, "tbody": nil, "tr": nil, "th": {"scope", "class"}, "td": {"class"},
	"svg": {"class", "viewbox", "aria-hidden", "aria-label", "role", "preserveaspectratio"}, "path": {"class", "d"}, "circle": {"cx", "cy", "r"},
	"rect": {"class", "x", "width", "height"},
}

// shape counts what a page consists of, but for its texts, and wants nothing else than allowed.
func shape(t interface{ Errorf(string, ...any) }, root *html.Node) map[string]int {
	out := map[string]int{}
	for n := range root.Descendants() {
		switch n.Type {
		case html.CommentNode:
			t.Errorf("a comment: %s", n.Data)
		case html.ElementNode:
			attributes, known := allowed[n.Data]
			if !known {
				t.Errorf("an element %s", n.Data)
			}
			for _, a := range n.Attr {
				if !slices.Contains(attributes, strings.ToLower(a.Key)) {
					t.Errorf("an attribute %s of %s", a.Key, n.Data)
				}
				out[n.Data+" "+a.Key]++
			}
			out[n.Data]++
			for _, alone := range []struct {
				name string
				text literal
			}{{"script", script}, {"style", style}} {
				if n.Data == alone.name && (n.FirstChild == nil || n.FirstChild.Data != string(alone.text) || n.FirstChild.NextSibling != nil) {
					t.Errorf("another %s", n.Data)
				}
			}
		}
	}
	return out
}

// words replaces each text below a value by what with makes of its number.
func words(v reflect.Value, with func(int) string, next *int) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			words(v.Elem(), with, next)
		}
	case reflect.Struct:
		if v.Type().PkgPath() == "time" || v.Type().PkgPath() == "net/netip" {
			return
		}
		for i := range v.NumField() {
			words(v.Field(i), with, next)
		}
	case reflect.Slice:
		for i := range v.Len() {
			words(v.Index(i), with, next)
		}
	case reflect.String:
		if v.CanSet() && v.String() != "" {
			v.SetString(with(*next))
			*next++
		}
	}
}

var hostile = []string{
	`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' onmouseover='alert(1)`, `</style><b>`, `</title><h1>`, `</script><script>`, `<!--`, `-->`, `]]>`, `<![CDATA[`,
	`&lt;b&gt;`, `&#60;b&#62;`, `javascript:alert(1)`, "a\x00b", "\x1b[2J", "\u202e<b>", "\xff<b>", "\r\n\r\n<b>", "`${x}`", `{{.}}`, `<svg/onload=alert(1)>`, `</details></section></main>`, `=`, `\"<`,
}

// TestNoTextLeavesItsElement has every text there is come from somebody who means harm: the page has
// the same elements and attributes as with harmless ones.
func TestNoTextLeavesItsElement(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		piece := rapid.OneOf(rapid.SampledFrom(hostile), rapid.String())
		texts := rapid.SliceOfN(piece, 30, 30).Draw(t, "texts")
		pages := map[bool]*html.Node{}
		for _, evil := range []bool{false, true} {
			s, next := spoilt(9, 9), 0
			words(reflect.ValueOf(&s), func(i int) string {
				if evil { // each is another one, as those that are equal are shown together
					return fmt.Sprint(i) + texts[i%len(texts)]
				}
				return fmt.Sprint("harmless", i)
			}, &next)
			host := "harmless"
			if evil {
				host = texts[0]
			}
			pages[evil] = parsed(t, Render(host, s))
		}
		if diff := cmp.Diff(shape(t, pages[false]), shape(t, pages[true])); diff != "" {
			t.Errorf("what the page consists of changes: %s", diff)
		}
	})
}

func FuzzText(f *testing.F) {
	for _, s := range hostile {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var m markup
		m.raw("<table><tr><td")
		m.attribute("class", s)
		m.raw(">")
		m.text(s)
		m.raw("</td></tr></table>")
		want := printable.Bounded(s, longestText)
		for n := range parsed(t, m.Bytes()).Descendants() {
			if n.Type == html.ElementNode && n.Data == "td" {
				text := ""
				if n.FirstChild != nil {
					text = n.FirstChild.Data
				}
				if text != want || len(n.Attr) != 1 || n.Attr[0].Val != want || n.NextSibling != nil || n.FirstChild != nil && n.FirstChild.NextSibling != nil {
					t.Errorf("%q became %q and %+v", want, text, n.Attr)
				}
				return
			}
		}
		t.Errorf("%q: the cell is gone", s)
	})
}

// TestMarkupIsConstant: only constants become markup, as nothing is converted to it, and nothing else
// than package html writes what is text.
func TestMarkupIsConstant(t *testing.T) {
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	writes := map[string]int{}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), f.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			call, is := n.(*ast.CallExpr)
			if !is {
				return true
			}
			switch fun := call.Fun.(type) {
			case *ast.Ident:
				if fun.Name == "literal" {
					t.Errorf("%s makes markup of a text", f.Name())
				}
			case *ast.SelectorExpr:
				if strings.HasPrefix(fun.Sel.Name, "Write") {
					writes[f.Name()+" "+fun.Sel.Name]++
				}
			}
			return true
		})
	}
	if diff := cmp.Diff(map[string]int{"markup.go WriteString": 2, "page.go Write": 1}, writes); diff != "" {
		t.Errorf("who writes to the page: %s", diff)
	}
	for name, l := range map[string]literal{"style": style, "script": script} {
		if strings.Contains(strings.ToLower(string(l)), "</"+name) || strings.Contains(string(l), "<!--") || strings.Contains(string(l), "http") || strings.Contains(string(l), "url(") {
			t.Errorf("the %s ends itself, or names something outside", name)
		}
	}
	if len(slices.Collect(maps.Keys(allowed))) < 20 {
		t.Error("few elements are known")
	}
}

func BenchmarkRender(b *testing.B) {
	for _, n := range []int{200, 4000} {
		s := spoilt(n, 60)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			size := 0
			for b.Loop() {
				size = len(Render("hdss7-21", s))
			}
			b.ReportMetric(float64(size), "bytes")
		})
	}
}
