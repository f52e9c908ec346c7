package page

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"flanneld/pkg/condition"
	"flanneld/pkg/status"
)

// serve answers with the page of what shown is, until the test's end.
func serve(t *testing.T, shown *atomic.Pointer[status.Status]) *httptest.Server {
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", Handler("hdss7-21", func(context.Context) (status.Status, error) { return *shown.Load(), nil }))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}

// TestInABrowser looks at the page with a real one: wide and narrow, light and dark, with and
// without scripts.
func TestInABrowser(t *testing.T) {
	t.Parallel()
	b := startBrowser(t)
	evil := spoilt(60, 48)
	for i, text := range hostile {
		evil.Conditions.Add(condition.Condition{Code: condition.LeaseIgnored, Message: text})
		evil.Peers[i].Backend, evil.Peers[i].Kernel = text, text
	}
	wide, wideDark, phone, phoneDark, old := view{1280, false, true}, view{1280, true, false}, view{390, false, false}, view{390, true, true}, view{320, false, true}
	for _, tt := range []struct {
		name  string
		s     status.Status
		views []view
	}{
		{"well", crowd(3, 3), []view{wide, phoneDark}}, {"spoilt", spoilt(60, 48), []view{wide, wideDark, phone, phoneDark}},
		{"crowd", spoilt(200, 120), []view{wideDark, phone}}, {"evil", evil, []view{wide, old}}, {"nothing", status.Status{Time: now}, []view{phone, wideDark}},
		{"both families", bothFamilies(), []view{old, phoneDark, wide}},
	} {
		name, s := tt.name, tt.s
		var shown atomic.Pointer[status.Status]
		shown.Store(&s)
		server := serve(t, &shown)
		for _, v := range tt.views {
			b.visit(server.URL, v)
			what := fmt.Sprintf("%s, %v, scripts %v", name, v, v.scripts)
			for _, request := range b.heard("Network.requestWillBeSent") {
				var of struct{ Request struct{ URL string } }
				if err := json.Unmarshal([]byte(request), &of); err != nil || of.Request.URL != server.URL+"/" && !strings.HasPrefix(of.Request.URL, "data:image/svg+xml,") {
					t.Errorf("%s: asks for %s (%v)", what, of.Request.URL, err)
				}
			}
			for _, method := range []string{"Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Page.javascriptDialogOpening"} {
				if said := b.heard(method); len(said) > 0 {
					t.Errorf("%s: %s: %s", what, method, said)
				}
			}
			b.opened()
			var wide []string
			b.evaluate(fmt.Sprintf(overflows, v.width), &wide)
			if len(wide) > 0 {
				t.Errorf("%s: wider than the page: %s", what, wide)
			}
			var dim []string
			b.evaluate(contrasts, &dim)
			if len(dim) > 0 {
				t.Errorf("%s: hard to read: %s", what, dim)
			}
			var ground struct {
				Brightness float64
				Text       string
				Filter     bool
			}
			b.evaluate(`({brightness: luminance(colour(getComputedStyle(document.body).backgroundColor)), text: document.body.innerText, filter: document.querySelector("#filter")?.hidden === false})`, &ground)
			if (ground.Brightness < 0.2) != v.dark {
				t.Errorf("%s: the ground has a brightness of %f", what, ground.Brightness)
			}
			for _, want := range append(texts(s), "hdss7-21", "As of 2026-11-30 14:28:11 UTC.") {
				if !strings.Contains(ground.Text, want) {
					t.Errorf("%s: no %q to be seen", what, want)
				}
			}
			if ground.Filter != (v.scripts && len(s.Peers) > 0) {
				t.Errorf("%s: the filter is shown: %v", what, ground.Filter)
			}
		}
	}
}

// texts are what must be seen of a host's state.
func texts(s status.Status) (out []string) {
	for _, c := range s.Conditions.Roots() {
		if c.Fix != "" {
			out = append(out, c.Fix)
		}
		if c.Code == condition.PeerUnreachable {
			out = append(out, c.Message)
		}
	}
	for _, c := range s.Changes {
		out = append(out, c.Text)
	}
	return out
}

func bothFamilies() status.Status {
	s := spoilt(12, 12)
	s.IPv6 = &status.Half{Network: s.Network, Host: s.Host, Lease: s.Lease, Device: s.Device}
	for i := range s.Peers {
		p := s.Peers[i]
		p.Subnet = prefix(fmt.Sprintf("fd00:7:a0b0:c0%02x::/64", i))
		p.PublicIP = prefix(fmt.Sprintf("fd00:1234:5678:9abc:def0:1234:5678:%x/128", 0x9a00+i)).Addr()
		s.Peers = append(s.Peers, p)
	}
	return s
}

// opened opens all that can be, and defines what the other expressions use.
func (b *browser) opened() {
	b.t.Helper()
	var done bool
	b.evaluate(`
		globalThis.colour = (text) => text.match(/[\d.]+/g).map(Number);
		globalThis.luminance = ([r, g, b]) => {
			const linear = (x) => (x /= 255) <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4;
			return 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
		};
		for (const d of document.querySelectorAll("details")) d.open = true;
		true`, &done)
}

// overflows are elements that stick out of a width, or the page if it can be moved sideways. A phone's
// innerWidth grows with what sticks out.
const overflows = `((width) => [
	...(document.documentElement.scrollWidth > width ? ["the page, by " + (document.documentElement.scrollWidth - width)] : []),
	...[...document.querySelectorAll("body *")].filter((e) => {
		const r = e.getBoundingClientRect();
		return r.width > 0 && (r.right > width + 1 || r.left < -1) && !e.closest(".unseen");
	}).map((e) => e.outerHTML.slice(0, 100)),
])(%d)`

// contrasts are texts whose colour differs too little from what is behind them: WCAG 2.2, AA, which
// asks for less where letters are large.
const contrasts = `(() => {
	const out = new Set(), walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	let seen = 0;
	while (walker.nextNode()) {
		const e = walker.currentNode.parentElement;
		if (!walker.currentNode.data.trim() || !e.checkVisibility() || e.closest("script, style, noscript, .unseen")) continue;
		let behind = e, back;
		while (behind && ((back = colour(getComputedStyle(behind).backgroundColor)).length === 4 && back[3] === 0)) behind = behind.parentElement;
		const style = getComputedStyle(e), [dark, light] = [luminance(colour(style.color)), luminance(behind ? back : [255, 255, 255])].sort((a, b) => a - b);
		const size = parseFloat(style.fontSize), large = size >= 24 || size >= 18.66 && style.fontWeight >= 700;
		const ratio = (light + 0.05) / (dark + 0.05);
		seen++;
		if (ratio < (large ? 3 : 4.5)) out.add(ratio.toFixed(2) + ": " + e.outerHTML.slice(0, 80));
	}
	if (seen < 10) out.add("only " + seen + " texts were looked at");
	return [...out];
})()`

// TestRenewal: the page follows what changes, keeps what its visitor has opened and typed, and says
// when nobody answers any more.
func TestRenewal(t *testing.T) {
	t.Parallel()
	b := startBrowser(t)
	var shown atomic.Pointer[status.Status]
	well, bad := crowd(60, 48), spoilt(60, 48)
	shown.Store(&well)
	server := serve(t, &shown)
	b.visit(server.URL, view{1280, false, true})
	until := func(what, expression string) {
		t.Helper()
		deadline := time.Now().Add(patience)
		for is := false; !is; time.Sleep(100 * time.Millisecond) {
			if b.evaluate(expression, &is); !is && time.Now().After(deadline) {
				t.Fatalf("never: %s", what)
			}
		}
	}
	var done bool
	b.evaluate(`(() => {
		document.getElementById("all").open = true;
		const input = document.querySelector("#filter input");
		input.focus();
		input.value = "172.7.40.";
		input.dispatchEvent(new Event("input", { bubbles: true }));
		return true;
	})()`, &done)
	const filtered = `[...document.querySelectorAll("#all tbody tr")].filter((r) => !r.hidden).length === 1`
	until("the filter leaves one", filtered)
	shown.Store(&bad)
	until("the state is renewed", `document.title.includes("not ready") && document.querySelector("header strong").textContent === "not ready"`)
	until("what was opened and typed stays", `document.getElementById("all").open && document.activeElement === document.querySelector("#filter input") && document.activeElement.value === "172.7.40." && `+filtered)
	until("its picture is that of the state", `document.getElementById("icon").href.includes("cf222e")`)
	b.evaluate(`(() => {
		window.said = 0;
		new MutationObserver(() => window.said++).observe(document.getElementById("live"), { childList: true, characterData: true, subtree: true });
		document.querySelector("#all > summary").focus();
		return true;
	})()`, &done)
	shown.Store(&well)
	until("the state is renewed once more", `!document.title.includes("not ready")`)
	until("who goes by the keyboard stays where he is", `document.activeElement === document.querySelector("#all > summary")`)
	shown.Store(&bad)
	until("and once more", `document.title.includes("not ready")`)
	until("nothing is read aloud again", `window.said === 0`)
	if said := append(b.heard("Log.entryAdded"), b.heard("Runtime.exceptionThrown")...); len(said) > 0 {
		t.Errorf("%s", said)
	}

	// The policy is in force: neither what somebody brought in nor another address.
	var ran []bool
	b.evaluate(`(async () => {
		const s = document.createElement("script");
		s.textContent = "window.ran = true";
		document.body.append(s);
		document.body.insertAdjacentHTML("beforeend", '<img src="x" onerror="window.ran = true"><p id="styled" style="color: red">');
		const left = await fetch("http://127.0.0.1:1/").then(() => true, () => false);
		return [window.ran === true, left, document.getElementById("styled").style.color === "red" && getComputedStyle(document.getElementById("styled")).color === "rgb(255, 0, 0)"];
	})()`, &ran)
	if fmt.Sprint(ran) != "[false false false]" {
		t.Errorf("script, request, style: %v", ran)
	}
	for _, request := range b.heard("Network.requestWillBeSent") {
		if strings.Contains(request, `"url":"http`) && !strings.Contains(request, `"url":"`+server.URL+`/"`) && !strings.Contains(request, `"url":"`+server.URL+`/x"`) && !strings.Contains(request, "127.0.0.1:1/") {
			t.Errorf("asks for %s", request)
		}
	}
	server.Close()
	until("it says that nobody answers", `document.getElementById("live").textContent.startsWith("No answer from flanneld since ") && document.querySelector("header strong").textContent === "not ready"`)
}

// pictures are those of the documents.
var pictures = []struct {
	name   string
	shown  status.Status
	view   view
	height int // pixels, before it is scaled
	scale  float64
}{
	{"page.webp", crowd(200, 64), view{1280, false, true}, 1220, 0.8},
	{"page-fault.webp", spoilt(60, 48), view{1280, true, true}, 1480, 0.8},
	{"page-phone.webp", spoilt(60, 48), view{390, false, true}, 1000, 1},
}

// TestPictures: the documents' pictures are there, and small. UPDATE=1 takes them anew: they
// show what the page looks like in a real browser, and so no two machines' are the same.
func TestPictures(t *testing.T) {
	const folder = "../../docs/img/"
	if os.Getenv("UPDATE") != "" {
		b := startBrowser(t)
		for _, p := range pictures {
			var shown atomic.Pointer[status.Status]
			shown.Store(&p.shown)
			b.visit(serve(t, &shown).URL, p.view)
			if err := os.WriteFile(folder+p.name, b.picture(p.height, p.scale), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	pages, err := os.ReadFile("../../docs/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pictures {
		content, err := os.ReadFile(folder + p.name)
		if err != nil || len(content) < 5000 || len(content) > 60_000 || string(content[8:12]) != "WEBP" {
			t.Errorf("%s: %d bytes, %v; UPDATE=1 go test -run TestPictures ./pkg/page", p.name, len(content), err)
		}
		if !strings.Contains(string(pages), "img/"+p.name) {
			t.Errorf("docs/monitoring.md does not show %s", p.name)
		}
	}
}
