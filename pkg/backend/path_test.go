package backend_test

import (
	"testing"

	"flanneld/pkg/backend"
)

func TestEveryReasonHasAText(t *testing.T) {
	seen := map[string]bool{"": true}
	for r := backend.NotOnLink; r <= backend.OnLinkUnknown; r++ {
		if seen[r.String()] {
			t.Errorf("reason %d reads %q", r, r)
		}
		seen[r.String()] = true
	}
}
