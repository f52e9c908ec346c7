package etcdv2

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"flanneld/internal/etcdtest"
	"flanneld/internal/lab"
	"flanneld/pkg/subnet"
)

var discard = log.New(io.Discard, "", 0)

// scripted is an etcd that follows a script.
type scripted struct {
	*httptest.Server
	requests atomic.Int32
}

func serve(t testing.TB, script http.HandlerFunc) *scripted {
	t.Helper()
	s := &scripted{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		script(w, r)
	}))
	s.Config.ErrorLog = discard
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// etcdReplies answers as etcd does, with a body that may be anything.
func etcdReplies(status int, index, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(clusterHeader, "1c45a069f3a1d796")
		if index != "" {
			w.Header().Set(indexHeader, index)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// hang sends what was said so far, and nothing more.
func hang(w http.ResponseWriter, r *http.Request) {
	w.(http.Flusher).Flush()
	hangUp(w, r)
}

// hangUp waits for the end of a request's connection, which a server sees only
// after the body.
func hangUp(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

func impatient(l *limits) {
	l.connect, l.header, l.call, l.watch = 500*time.Millisecond, 300*time.Millisecond, time.Second, 500*time.Millisecond
	l.brief = time.Second
}

// TestBrokenReplies calls everything against servers that always say the same.
func TestBrokenReplies(t *testing.T) {
	const node = `{"action":"get","node":{"key":"/coreos.com/network","dir":true,"modifiedIndex":9,"createdIndex":9}}`
	for _, tt := range []struct {
		name  string
		reply http.HandlerFunc
		list  string // what the error of each call contains
		write string
		watch string
	}{
		{"nothing", etcdReplies(200, "9", ""), "answers with nothing", "answers with nothing", "ended the watch at once, without an event"},
		{"no node", etcdReplies(200, "9", "{}"), "does not show the directory", "does not show the key", "a watch's reply shows no key"},
		{"a null node", etcdReplies(200, "9", `{"action":"get","node":null}`), "does not show the directory", "does not show the key", "a watch's reply shows no key"},
		{"null", etcdReplies(200, "9", "null"), "does not show the directory", "does not show the key", "a watch's reply shows no key"},
		{"not JSON", etcdReplies(200, "9", "hello\nworld"), "not etcd's JSON", "not etcd's JSON", "not etcd's JSON"},
		{"half a JSON", etcdReplies(200, "9", node[:len(node)/2]), "not etcd's JSON", "not etcd's JSON", "not etcd's JSON"},
		{"an error that is not JSON", etcdReplies(400, "9", "hello\nworld"), "not etcd's JSON", "not etcd's JSON", "not etcd's JSON"},
		{"an event of the past", etcdReplies(200, "9", strings.ReplaceAll(node, "9", "5")), "", "does not show the key", "after index 5 was answered with index 5"},
		{"a directory", etcdReplies(200, "9", node), "", "does not show the key", subnet.ErrHistoryLost.Error()},
		{"no index", etcdReplies(200, "", node), "does not tell the index", "does not show the key", "does not tell the index"},
		{"an index that is no number", etcdReplies(200, "x", node), `"x": invalid syntax`, `"x": invalid syntax`, "does not tell the index"},
		{"a huge index", etcdReplies(200, "99999999999999999999999", node), "out of range", "out of range", "does not tell the index"},
		{"history is lost", etcdReplies(400, "9", `{"errorCode":401,"message":"The event in requested index is outdated and cleared","cause":"[9/6]","index":9}`),
			"error 401", "error 401", subnet.ErrHistoryLost.Error()},
		{"no leader", etcdReplies(500, "9", `{"errorCode":300,"message":"Raft Internal Error","cause":"etcdserver: request timed out","index":0}`),
			"cannot answer: Raft Internal Error (etcdserver: request timed out), error 300", "error 300", "error 300"},
		{"a gateway", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<h1>oh\nno</h1>", http.StatusBadGateway) },
			`cannot answer: HTTP 502 "<h1>oh"`, `cannot answer: HTTP 502 "<h1>oh"`, `cannot answer: HTTP 502 "<h1>oh"`},
		{"another server", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "\x1b[31mwelcome") },
			`is not etcd (HTTP 200 "\x1b[31mwelcome")`, "is not etcd", "is not etcd"},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/x", http.StatusTemporaryRedirect)
		},
			`sends elsewhere, to "http://127.0.0.1:1/x"`, "sends elsewhere", "sends elsewhere"},
		{"a closed connection", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
			"closes the connection", "closes the connection", "closes the connection"},
		{"a body that stops short", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000")
			etcdReplies(200, "9", node)(w, r)
		}, "unexpected EOF", "unexpected EOF", "unexpected EOF"},
		{"a body that hangs", func(w http.ResponseWriter, r *http.Request) {
			etcdReplies(200, "9", node[:10])(w, r)
			hang(w, r)
		}, "stopped in the middle of its reply", "stopped in the middle of its reply", "stopped in the middle of its reply"},
		{"no headers", hangUp,
			"exceeded header timeout", "exceeded header timeout", "exceeded header timeout"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := serve(t, tt.reply)
			r := open(t, Config{Endpoints: []string{server.URL}, Username: "u", Password: "s3cret"}, impatient)
			e := subnet.Entry{Key: lease, Value: "a", TTL: time.Hour}
			begun := time.Now()
			_, err := r.List(t.Context())
			if tt.list != "" {
				etcdtest.WantError(t, err, "list "+prefix+": ", server.URL, tt.list)
			} else if err != nil {
				t.Errorf("List: %v", err)
			}
			_, err = r.Put(t.Context(), e)
			etcdtest.WantError(t, err, "write "+prefix+"/"+lease+": ", server.URL, tt.write)
			e.Modified = 5
			_, err = r.Refresh(t.Context(), e)
			etcdtest.WantError(t, err, "refresh "+prefix+"/"+lease+": ", server.URL, tt.write)
			etcdtest.WantError(t, etcdtest.Follow(t, r, 5).Fails(), server.URL, tt.watch)
			if n := server.requests.Load(); n > 8 {
				t.Errorf("%d requests", n)
			}
			if took := time.Since(begun); took > 15*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

func TestEndlessReply(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		etcdReplies(200, "9", "{")(w, r)
		for blank, err := strings.Repeat(" ", 1<<20), error(nil); err == nil; {
			_, err = io.WriteString(w, blank)
		}
	})
	r := open(t, Config{Endpoints: []string{server.URL}}, func(l *limits) { l.reply = 4 << 20 })
	_, err := r.List(t.Context())
	etcdtest.WantError(t, err, "list "+prefix+": ", server.URL, "not etcd's JSON")
}

// TestBrokenWatches has servers that answer everything but a watch well.
func TestBrokenWatches(t *testing.T) {
	const event = `{"action":"set","node":{"key":"/coreos.com/network/config","value":"a","modifiedIndex":%d,"createdIndex":9}}`
	for _, tt := range []struct {
		name  string
		reply http.HandlerFunc
		after uint64
		says  string
		lost  bool
	}{
		{"nothing", etcdReplies(200, "9", ""), 9, "ended the watch at once, without an event", false},
		{"no node", etcdReplies(200, "9", "{}"), 9, "shows no key", false},
		{"not JSON", etcdReplies(200, "9", "hello"), 9, "not etcd's JSON", false},
		{"half an event", etcdReplies(200, "9", event[:20]), 9, "not etcd's JSON", false},
		{"an error that is not JSON", etcdReplies(400, "9", "hello"), 9, "not etcd's JSON", false},
		{"another error", etcdReplies(400, "9", `{"errorCode":203,"message":"m","cause":"c"}`), 9, "answers: m (c), error 203", false},
		{"history is lost", etcdReplies(400, "9", `{"errorCode":401,"message":"cleared","cause":"[9/6]","index":9}`), 9, "history", true},
		{"watchers are dropped", etcdReplies(400, "9", `{"errorCode":400,"message":"watcher is cleared due to etcd recovery"}`), 9, "history", true},
		{"an event of the past", etcdReplies(200, "9", fmt.Sprintf(event, 9)), 9, "after index 9 was answered with index 9", false},
		{"a hundred changes behind", etcdReplies(200, "200", fmt.Sprintf(event, 10)), 9, "is 190 changes ahead", true},
		{"no index", etcdReplies(200, "", fmt.Sprintf(event, 10)), 9, "does not tell the index", false},
		{"it lags", etcdReplies(200, "5", ""), 8, "lags behind: it has reached index 5 of 9", false},
		{"the index is back", etcdReplies(200, "5", ""), 99, "is back at index 9", true},
		{"another cluster", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set(clusterHeader, "other")
			w.Header().Set(indexHeader, "9")
		}, 9, "belongs to cluster other now, instead of 1c45a069f3a1d796", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var waits atomic.Int32
			server := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Query().Has("wait") {
					waits.Add(1)
					tt.reply(w, r)
					return
				}
				etcdReplies(200, "9", `{"action":"get","node":{"key":"/coreos.com/network","dir":true}}`)(w, r)
			})
			r := open(t, Config{Endpoints: []string{server.URL}}, impatient)
			etcdtest.List(t, r)
			err := etcdtest.Follow(t, r, tt.after).Fails()
			etcdtest.WantError(t, err, fmt.Sprintf("watch %s after index %d: %s", prefix, tt.after, server.URL), tt.says)
			if errors.Is(err, subnet.ErrHistoryLost) != tt.lost {
				t.Errorf("error %v", err)
			}
			if n := waits.Load(); n != 1 {
				t.Errorf("%d watches", n)
			}
		})
	}
}

// TestRenewal lets waits end without an event, by our own limit and by one of
// the server's.
func TestRenewal(t *testing.T) {
	for name, ends := range map[string]http.HandlerFunc{
		"our own limit": func(w http.ResponseWriter, r *http.Request) { etcdReplies(200, "9", "")(w, r); hang(w, r) },
		"a limit of the server": func(w http.ResponseWriter, r *http.Request) {
			etcdReplies(200, "9", "")(w, r)
			w.(http.Flusher).Flush()
			select {
			case <-time.After(time.Second + 100*time.Millisecond):
			case <-r.Context().Done():
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			var waits, asked atomic.Int32
			server := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Query().Has("wait") {
					waits.Add(1)
					ends(w, r)
					return
				}
				asked.Add(1)
				etcdReplies(200, "9", `{"action":"get","node":{"key":"/coreos.com/network","dir":true}}`)(w, r)
			})
			r := open(t, Config{Endpoints: []string{server.URL}}, impatient, func(l *limits) {
				if name != "our own limit" {
					l.watch = time.Minute
				}
			})
			w := etcdtest.Follow(t, r, etcdtest.List(t, r).Index).Stands()
			lab.Eventually(t, patience, "the third wait", func() error {
				if waits.Load() < 3 {
					return errors.New("not yet")
				}
				return nil
			})
			w.End()
			// Each wait but the first was preceded by a read through the log.
			if a, n := asked.Load(), waits.Load(); a != n || n > 4 {
				t.Errorf("%d waits and %d reads", n, a)
			}
		})
	}
}
