package etcdv3

import (
	"fmt"
	"testing"
)

// TestRefusalsAreNoAbsence: an answer by HTTP says that there is no such API, or that it may not be used.
func TestRefusalsAreNoAbsence(t *testing.T) {
	for code, absent := range map[int]bool{
		400: true, 404: true, 405: true, 415: true, 426: true,
		401: false, 403: false, 407: false, 408: false, 421: false, 429: false, 451: false, 499: false, 500: false, 502: false, 503: false,
	} {
		said := fmt.Sprintf("unexpected HTTP status code received from server: %d (Some Words); malformed header: missing HTTP content-type", code)
		if noGRPC(said) != absent {
			t.Errorf("%s: absent %v, want %v", said, !absent, absent)
		}
	}
	if noGRPC("error reading server preface: http2: frame too large") {
		t.Error("no answer is an answer")
	}
}
