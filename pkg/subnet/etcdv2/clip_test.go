package etcdv2

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"flanneld/internal/etcdtest"
)

func TestClip(t *testing.T) {
	const mark = `"\u0000clipped `
	for in, want := range map[string]string{
		``: ``, `{"key":"/a","value":"12345678"}`: `{"key":"/a","value":"12345678"}`,
		`{"value":"123456789"}`:                             `{"value":` + mark + `9"}`,
		`["a\\b","a\"b","\"\"\"\"\"\"\"\"\""]`:              `["a\\b","a\"b",` + mark + `9"]`,
		`["\u003c\u003c\u003c","\u00fc\u20ac\ud83d\ude00"]`: `["\u003c\u003c\u003c",` + mark + `9"]`,
		"[1, \n\t  2]": "[1, 2]",
		`["123456789`:  `[`,
		`["1234`:       `[`,
	} {
		for name, reader := range map[string]io.Reader{"at once": strings.NewReader(in), "in bytes": iotest.OneByteReader(strings.NewReader(in))} {
			if got, err := io.ReadAll(newClip(reader, 8)); err != nil || string(got) != want {
				t.Errorf("%s, %s: %s, %v; want %s", in, name, got, err, want)
			}
		}
	}
	for _, endless := range []string{"[" + strings.Repeat("1", 2000), "{" + strings.Repeat(" ", 2000)} {
		if _, err := io.ReadAll(newClip(strings.NewReader(endless), 8)); err == nil {
			t.Errorf("%.10s… is taken", endless)
		}
	}
	for value, want := range map[string]int{
		"": 0, "a": 0, "1048576": 0, "\x00clipped": 0, "\x00clipped x": 0, "\x00clipped 9": 0, "\x00clipped 1048576": 1048576,
	} {
		if got := clipped(value); got != want {
			t.Errorf("%q: %d", value, got)
		}
	}
}

// TestLargeList has 5,000 leases among 75 values of 1 MB, which etcd's JSON doubles:
// more than one reply may have.
func TestLargeList(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		etcdReplies(200, "9", `{"action":"get","node":{"key":"/coreos.com/network","dir":true,"nodes":[{"key":"/coreos.com/network/subnets","dir":true,"nodes":[`)(w, r)
		const node = `{"key":"/coreos.com/network/subnets/10.%d.%d.0-%d","value":"%s","modifiedIndex":8,"createdIndex":8},`
		large := `\"` + strings.Repeat("x", 999_998)
		for i := range 5000 {
			fmt.Fprintf(w, node, i/250, i%250, 24, "a lease")
			if i%66 == 0 && i/66 < 75 {
				fmt.Fprintf(w, node, i/250, i%250, 28, large)
			}
		}
		_, _ = io.WriteString(w, "null]}]}}")
	})
	r := open(t, Config{Endpoints: []string{server.URL}})
	listed := etcdtest.List(t, r)
	leases, tooLong := 0, 0
	for _, e := range listed.Entries {
		if e.Value == "a lease" {
			leases++
		}
		if e.TooLong == 999_999 && e.Value == "" {
			tooLong++
		}
	}
	if leases != 5000 || tooLong != 75 || listed.Index != 9 {
		t.Errorf("%d leases, %d values that are too long", leases, tooLong)
	}
}

// TestSlowList has an etcd that needs longer for a list than members are given to
// answer.
func TestSlowList(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(500 * time.Millisecond):
			etcdReplies(404, "9", `{"errorCode":100,"message":"Key not found","cause":"/coreos.com","index":9}`)(w, r)
		case <-r.Context().Done():
		}
	})
	r := open(t, Config{Endpoints: []string{server.URL}}, func(l *limits) { l.header, l.call = 100*time.Millisecond, 10*time.Second })
	if s := etcdtest.List(t, r); s.Index != 9 {
		t.Errorf("%+v", s)
	}
	if n := server.requests.Load(); n != 2 {
		t.Errorf("%d requests", n)
	}
}

// TestEndlessList has a server with keys without end.
func TestEndlessList(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		etcdReplies(200, "9", `{"action":"get","node":{"key":"/coreos.com/network","dir":true,"nodes":[`)(w, r)
		for node, err := strings.Repeat(`{"key":"/coreos.com/network/a","value":"b"},`, 1000), error(nil); err == nil; {
			_, err = io.WriteString(w, node)
		}
	})
	r := open(t, Config{Endpoints: []string{server.URL}}, func(l *limits) { l.reply = 1 << 20 })
	_, err := r.List(t.Context())
	etcdtest.WantError(t, err, "list "+prefix+": ", server.URL, "the reply is longer than is read")
}

func BenchmarkClip(b *testing.B) {
	for name, value := range map[string]string{"plain": "xxxx", "escaped": `\u003c`} {
		b.Run(name, func(b *testing.B) {
			document := `["` + strings.Repeat(value, 1<<20/len(value)) + `"]`
			b.SetBytes(int64(len(document)))
			for b.Loop() {
				_, _ = io.Copy(io.Discard, newClip(strings.NewReader(document), 1<<14))
			}
		})
	}
}

// FuzzClip reads documents clipped and whole.
func FuzzClip(f *testing.F) {
	for _, seed := range []string{
		`{"action":"get","node":{"key":"/coreos.com/network/config","value":"{\"Network\":\"10.0.0.0/8\"}","modifiedIndex":4}}`,
		`["\ud83d\ude00\ud83d","\u003c\n\\"]`, "[\"\xff\xff\xff\xff\xff\xff\", 1e9]", `"\`, `{"a" : null ,"b":[true]}`,
	} {
		f.Add(seed)
	}
	const longest = 8
	f.Fuzz(func(t *testing.T, document string) {
		out, err := io.ReadAll(newClip(strings.NewReader(document), longest))
		if err != nil || !json.Valid([]byte(document)) {
			return
		}
		whole, clipped := json.NewDecoder(strings.NewReader(document)), json.NewDecoder(bytes.NewReader(out))
		for {
			want, end := whole.Token()
			got, err := clipped.Token()
			if fmt.Sprint(end) != fmt.Sprint(err) {
				t.Fatalf("%q becomes %q: %v, want %v", document, out, err, end)
			}
			if end != nil {
				return
			}
			text, isText := got.(string)
			long, _ := want.(string)
			if isText && strings.HasPrefix(text, clipMark) && len(long) > longest || want == got && len(text) <= 3*longest {
				continue // what is no character counts as less than it is read as
			}
			t.Fatalf("%q becomes %q: %q, want %q", document, out, got, want)
		}
	})
}
