package etcdv2

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/klog/v2"

	"flanneld/internal/etcdtest"
	"flanneld/internal/lab"
	"flanneld/pkg/condition"
	"flanneld/pkg/subnet"
)

// lockedBuffer is for the log of several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) about(what string) (lines []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for line := range strings.Lines(b.String()) {
		if strings.Contains(line, what) {
			lines = append(lines, line)
		}
	}
	return lines
}

// TestNoLongPolls has proxies in front of etcd that carry no request that lasts.
func TestNoLongPolls(t *testing.T) {
	t.Parallel()
	var log lockedBuffer
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	klog.SetOutputBySeverity("INFO", &log) // which gets the graver lines too
	t.Cleanup(func() { klog.SetOutput(io.Discard); klog.LogToStderr(true) })
	etcd := lab.StartEtcd(t, lab.EtcdOptions{})
	var all sync.WaitGroup
	for name, ends := range map[string]func(w http.ResponseWriter, r *http.Request){
		"at-once":        func(w http.ResponseWriter, r *http.Request) { etcdLike(w, r); w.WriteHeader(200) },
		"after-a-second": func(w http.ResponseWriter, r *http.Request) { etcdLike(w, r); w.WriteHeader(200); pause(w, r) },
		"gateway": func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, "<h1>time-out</h1>", http.StatusGatewayTimeout)
		},
		"held back": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"closes":    func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		var cluster string
		var mu sync.Mutex
		proxy := through(t, etcd, func(forward http.Handler, w http.ResponseWriter, r *http.Request) {
			if !r.URL.Query().Has("wait") {
				forward.ServeHTTP(w, r)
				mu.Lock()
				cluster = w.Header().Get(clusterHeader)
				mu.Unlock()
				return
			}
			mu.Lock()
			r.Header.Set(clusterHeader, cluster)
			mu.Unlock()
			ends(w, r)
		})
		r := etcdtest.Open(t, Config{Endpoints: []string{proxy.URL}, Prefix: "/" + name}, New)
		all.Go(func() {
			var wrong condition.Set
			m := subnet.NewManager(r, subnet.Options{RenewMargin: time.Hour, Conditions: &wrong})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { defer close(done); _ = m.Run(ctx) }()
			defer func() { cancel(); <-done }()
			late := time.AfterFunc(8*time.Second, func() { etcd.Set("/"+name+"/config", "news") })
			defer late.Stop()
			for began := time.Now(); time.Since(began) < 25*time.Second; time.Sleep(500 * time.Millisecond) {
				if v := m.View(); time.Since(began) > 5*time.Second && !v.Current {
					t.Errorf("%s: not current after %v, read %v ago", name, time.Since(began), time.Since(v.Read))
					return
				}
			}
			if m.View().Config != "news" {
				t.Errorf("%s: it has not heard of a change of 17 s ago", name)
			}
			c, there := wrong.Find(condition.EtcdWatchBroken, "")
			if !there || !strings.Contains(c.Cause, proxy.URL) || !strings.Contains(c.Cause, "a proxy in front of etcd") {
				t.Errorf("%s: condition %+v", name, c)
			}
			if n := proxy.requests.Load(); n > 60 {
				t.Errorf("%s: %d requests in 25 s", name, n)
			}
			if lines := log.about(proxy.URL); len(lines) == 0 || len(lines) > 4 {
				t.Errorf("%s: %d lines:\n%s", name, len(lines), strings.Join(lines, ""))
			}
		})
	}
	all.Wait()
}

// etcdLike sets the headers of etcd's replies.
func etcdLike(w http.ResponseWriter, r *http.Request) {
	w.Header().Set(clusterHeader, r.Header.Get(clusterHeader))
	w.Header().Set(indexHeader, "1000000")
}

// pause ends a reply after a second.
func pause(w http.ResponseWriter, r *http.Request) {
	w.(http.Flusher).Flush()
	select {
	case <-time.After(time.Second):
	case <-r.Context().Done():
	}
}
