package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"syscall"
	"time"
)

// Server answers GET /healthz, and what is registered by Handle.
type Server struct {
	listener net.Listener
	mux      *http.ServeMux
}

// Listen binds the address. Requests are answered once Run is called.
func Listen(at netip.AddrPort) (*Server, error) {
	listener, err := net.Listen("tcp", at.String())
	if err != nil {
		return nil, fmt.Errorf("listen for health checks: %w; %s", err, advice(err, at.Port()))
	}
	s := &Server{listener: listener, mux: http.NewServeMux()}
	s.Handle("GET /healthz", http.HandlerFunc(healthz))
	return s, nil
}

// advice is what an operator can do about an error of Listen.
func advice(err error, port uint16) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Sprintf("see who has the port with: ss -ltnp sport = :%d, or choose another --healthz-port", port)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "set --healthz-ip to an address of this host"
	}
	return "choose another --healthz-ip or --healthz-port"
}

// Addr is where it listens.
func (s *Server) Addr() netip.AddrPort { return s.listener.Addr().(*net.TCPAddr).AddrPort() }

// Handle registers a pattern in net/http's notation, such as "GET /metrics".
// Call it before Run.
func (s *Server) Handle(pattern string, h http.Handler) { s.mux.Handle(pattern, h) }

func (s *Server) String() string { return "health server on " + s.Addr().String() }

// Bounds for a peer that is slow or means harm, and for the daemon's end.
const (
	requestTimeout = 5 * time.Second
	answerTimeout  = 10 * time.Second
	largestHeader  = 8 << 10 // bytes
	endTimeout     = 200 * time.Millisecond
)

// Run answers until ctx ends; then requests under way have endTimeout left.
func (s *Server) Run(ctx context.Context) error {
	visitors := &quota{Listener: s.listener, most: connectionsFor(openFiles())}
	server := &http.Server{
		Handler:           s.mux,
		ReadHeaderTimeout: requestTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      answerTimeout,
		MaxHeaderBytes:    largestHeader,
		ErrorLog:          log.New(serverLog{}, "", 0),
		ConnState:         visitors.note,
	}
	server.SetKeepAlivesEnabled(false) // nobody asks so often that it matters
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
		defer cancel()
		if server.Shutdown(last) != nil {
			_ = server.Close()
		}
	})
	err := server.Serve(visitors)
	if stop() {
		return fmt.Errorf("answer health checks on %v: %w", s.Addr(), err)
	}
	<-ended
	return nil
}

func healthz(w http.ResponseWriter, _ *http.Request) {
	const text = "flanneld is running"
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	_, _ = io.WriteString(w, text)
}
