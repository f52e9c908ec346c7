package health

import (
	"context"
	"io"
	"net/http"
	"strings"
	"time"

	"flanneld/pkg/printable"
)

// askTime bounds how long the daemon may take to say how it is.
const askTime = 2 * time.Second

// Readiness answers GET /readyz: 200 where unready says nil, and otherwise 503
// and what it says, in one line.
func Readiness(unready func(context.Context) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), askTime)
		defer cancel()
		text, code := "ready", http.StatusOK
		if err := unready(ctx); err != nil {
			text = printable.Bounded(strings.Join(strings.Fields(err.Error()), " "), printable.Longest)
			code = http.StatusServiceUnavailable
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(code)
		_, _ = io.WriteString(w, text+"\n")
	})
}
