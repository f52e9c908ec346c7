package health

import (
	"context"
	"errors"
	"testing"
	"time"

	"flanneld/pkg/recent"
)

func TestReadiness(t *testing.T) {
	var state error
	s, _ := start(t, func(s *Server) {
		s.Handle("GET /readyz", Readiness(func(ctx context.Context) error {
			if _, bounded := ctx.Deadline(); !bounded {
				t.Error("a question without an end")
			}
			return state
		}))
	})
	for _, tt := range []struct {
		state error
		code  int
		body  string
	}{
		{nil, 200, "ready\n"},
		{errors.New("no lease yet"), 503, "no lease yet\n"},
		{errors.New("etcd says:\nnothing\r\n"), 503, "etcd says: nothing\n"},
		{nil, 200, "ready\n"},
	} {
		state = tt.state
		time.Sleep(recent.FreshFor)
		if answer, body := do(t, s, "GET", "/readyz"); answer.StatusCode != tt.code || body != tt.body {
			t.Errorf("%v: %d %q", tt.state, answer.StatusCode, body)
		}
	}
	if answer, _ := do(t, s, "POST", "/readyz"); answer.StatusCode != 405 {
		t.Errorf("POST: %d", answer.StatusCode)
	}
}

// TestReadinessIsShared: who asks again within a second costs nothing.
func TestReadinessIsShared(t *testing.T) {
	asked := 0
	s, _ := start(t, func(s *Server) {
		s.Handle("GET /readyz", Readiness(func(context.Context) error { asked++; return nil }))
	})
	began := time.Now()
	for range 20 {
		if answer, body := do(t, s, "GET", "/readyz"); answer.StatusCode != 200 || body != "ready\n" {
			t.Errorf("%d %q", answer.StatusCode, body)
		}
	}
	if most := 1 + int(time.Since(began)/recent.FreshFor); asked > most {
		t.Errorf("20 requests asked %d times, where %d suffice", asked, most)
	}
}
