package health

import (
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

func TestQuotaFollowsTheLimitOnFiles(t *testing.T) {
	for files, want := range map[uint64]int{0: 4, 32: 4, 64: 8, 256: 32, 1024: 64, 1 << 20: 64, 1<<64 - 1: 64} {
		if got := connectionsFor(files); got != want {
			t.Errorf("%d files: %d connections, want %d", files, got, want)
		}
	}
}

// TestIdleConnectionsMakeRoom has far more of them than there may be, some with
// half a request: few stay open, and a health check is answered all along.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	s, _ := start(t, nothing)
	closed, opened := make(chan error, 1000), 0
	for i := range 300 {
		conn, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		opened++
		if i%3 == 0 {
			_, _ = io.WriteString(conn, "GET /healthz HT") // and no more; it may be closed already
		}
		go func() {
			_, err := io.ReadAll(conn)
			closed <- err
		}()
		if i%50 == 49 {
			if answer, _ := do(t, s, "GET", "/healthz"); answer.StatusCode != 200 {
				t.Errorf("a health check beside %d idle connections: %s", opened, answer.Status)
			}
		}
	}
	for range opened - mostConnections { // well before a time-out would close them
		select {
		case <-closed:
		case <-time.After(requestTimeout - time.Second):
			t.Fatalf("%d connections were opened, and more than %d stay open", opened, mostConnections)
		}
	}
}

// TestRequestsOutliveIdleConnections: what has asked is answered, though others come.
func TestRequestsOutliveIdleConnections(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	s, _ := start(t, func(s *Server) {
		s.Handle("GET /slow", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			close(entered)
			<-release
			_, _ = io.WriteString(w, "done")
		}))
	})
	answered := make(chan string)
	go func() {
		_, body := do(t, s, "GET", "/slow")
		answered <- body
	}()
	<-entered
	for range 2 * mostConnections {
		conn, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	if answer, _ := do(t, s, "GET", "/healthz"); answer.StatusCode != 200 {
		t.Error(answer.Status)
	}
	close(release)
	if got := <-answered; got != "done" {
		t.Errorf("the request under way was answered with %q", got)
	}
}

// TestConnectionsAreNotKept: each request has its own, which then is closed.
func TestConnectionsAreNotKept(t *testing.T) {
	s, _ := start(t, nothing)
	conn, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(4 * time.Second))
	if body, err := io.ReadAll(conn); err != nil || len(body) == 0 {
		t.Errorf("the connection stays open after the answer %q: %v", body, err)
	}
}
