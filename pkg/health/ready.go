package health

import (
	"context"
	"io"
	"net/http"
	"strings"

	"flanneld/pkg/printable"
	"flanneld/pkg/recent"
)

// Readiness answers GET /readyz: 200 where unready says nil, and otherwise 503
// and what it says, in one line. All who ask within a second get the same answer.
func Readiness(unready func(context.Context) error) http.Handler {
	latest := recent.New(func(ctx context.Context) (struct{}, error) { return struct{}{}, unready(ctx) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, code := "ready", http.StatusOK
		if _, err := latest.Get(r.Context()); err != nil {
			text = printable.Bounded(strings.Join(strings.Fields(err.Error()), " "), printable.Longest)
			code = http.StatusServiceUnavailable
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(code)
		_, _ = io.WriteString(w, text+"\n")
	})
}
