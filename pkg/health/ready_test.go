package health

import (
	"context"
	"errors"
	"testing"
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
		if answer, body := do(t, s, "GET", "/readyz"); answer.StatusCode != tt.code || body != tt.body {
			t.Errorf("%v: %d %q", tt.state, answer.StatusCode, body)
		}
	}
	if answer, _ := do(t, s, "POST", "/readyz"); answer.StatusCode != 405 {
		t.Errorf("POST: %d", answer.StatusCode)
	}
}
