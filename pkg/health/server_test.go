package health

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var loopback = netip.MustParseAddrPort("127.0.0.1:0")

// start runs a server until the test's end, or until stop is called, which
// returns how long the end took.
func start(t *testing.T, register func(*Server)) (s *Server, stop func() time.Duration) {
	t.Helper()
	s, err := Listen(loopback)
	if err != nil {
		t.Fatal(err)
	}
	register(s)
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- s.Run(ctx) }()
	stopped := false
	stop = func() time.Duration {
		if stopped {
			return 0
		}
		stopped = true
		began := time.Now()
		cancel()
		if err := <-result; err != nil {
			t.Errorf("Run ended with %v", err)
		}
		return time.Since(began)
	}
	t.Cleanup(func() { stop() })
	return s, stop
}

func nothing(*Server) {}

func do(t *testing.T, s *Server, method, path string) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, fmt.Sprintf("http://%v%s", s.Addr(), path), nil)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer, string(body)
}

func TestRequests(t *testing.T) {
	s, _ := start(t, func(s *Server) {
		s.Handle("GET /readyz", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "no lease", http.StatusServiceUnavailable)
		}))
	})
	const running = "flanneld is running"
	tests := []struct {
		method, path string
		code         int
		body         string // "*": any
	}{
		{"GET", "/healthz", 200, running},
		{"GET", "/healthz?verbose", 200, running},
		{"HEAD", "/healthz", 200, ""},
		{"POST", "/healthz", 405, "*"},
		{"PUT", "/healthz", 405, "*"},
		{"DELETE", "/healthz", 405, "*"},
		{"GET", "/", 404, "404 page not found\n"},
		{"GET", "/healthz/", 404, "*"},
		{"GET", "/healthzz", 404, "*"},
		{"GET", "/metrics", 404, "*"},
		{"GET", "/debug/pprof/", 404, "*"},
		{"GET", "/readyz", 503, "no lease\n"},
	}
	for _, tt := range tests {
		t.Run(tt.method+" "+tt.path, func(t *testing.T) {
			answer, body := do(t, s, tt.method, tt.path)
			if answer.StatusCode != tt.code || tt.body != "*" && body != tt.body {
				t.Errorf("%d %q, want %d %q", answer.StatusCode, body, tt.code, tt.body)
			}
			if tt.code == 200 && answer.ContentLength != int64(len(running)) {
				t.Errorf("length %d", answer.ContentLength)
			}
		})
	}
}

func TestListenErrors(t *testing.T) {
	s, stop := start(t, nothing)
	port := s.Addr().Port()
	tests := []struct {
		ip   string
		port uint16
		want string
	}{
		{"127.0.0.1", port, fmt.Sprintf("listen for health checks: listen tcp 127.0.0.1:%d: bind: address already in use; see who has the port with: ss -ltnp sport = :%d, or choose another --healthz-port", port, port)},
		{"192.0.2.1", 2401, "listen for health checks: listen tcp 192.0.2.1:2401: bind: cannot assign requested address; set --healthz-ip to an address of this host"},
	}
	for _, tt := range tests {
		if _, err := Listen(netip.AddrPortFrom(netip.MustParseAddr(tt.ip), tt.port)); err == nil || err.Error() != tt.want {
			t.Errorf("error\n got: %v\nwant: %s", err, tt.want)
		}
	}
	if answer, _ := do(t, s, "GET", "/healthz"); answer.StatusCode != 200 {
		t.Errorf("the first server answers %s after that", answer.Status)
	}
	if want := fmt.Sprintf("health server on 127.0.0.1:%d", port); s.String() != want {
		t.Errorf("%v, want %s", s, want)
	}
	stop()
	again, err := Listen(s.Addr())
	if err != nil {
		t.Fatalf("the port is not free after the end: %v", err)
	}
	again.listener.Close()
}

func TestEnd(t *testing.T) {
	const well = 2 * time.Second // well below the 5 s that a hanging peer is allowed
	t.Run("idle", func(t *testing.T) {
		_, stop := start(t, nothing)
		if took := stop(); took > well {
			t.Errorf("the end took %v", took)
		}
	})
	t.Run("before Run", func(t *testing.T) {
		s, err := Listen(loopback)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Run(ctx); err != nil {
			t.Errorf("Run ended with %v", err)
		}
		if _, err := net.Dial("tcp", s.Addr().String()); err == nil {
			t.Error("still listening")
		}
	})
	t.Run("with a peer that says nothing and a request that hangs", func(t *testing.T) {
		entered, release := make(chan struct{}), make(chan struct{})
		defer close(release)
		s, stop := start(t, func(s *Server) {
			s.Handle("GET /hang", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
				close(entered)
				<-release
			}))
		})
		for _, says := range []string{"", "GET /hang HTTP/1.1\r\nHost: x\r\n\r\n"} {
			peer, err := net.Dial("tcp", s.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer peer.Close()
			if _, err := io.WriteString(peer, says); err != nil {
				t.Fatal(err)
			}
		}
		<-entered
		if took := stop(); took > well {
			t.Errorf("the end took %v", took)
		}
	})
}

func TestRunReportsALostListener(t *testing.T) {
	s, err := Listen(loopback)
	if err != nil {
		t.Fatal(err)
	}
	s.listener.Close()
	if err := s.Run(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "answer health checks on 127.0.0.1:") {
		t.Errorf("error %v", err)
	}
}
