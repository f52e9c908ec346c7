package etcdv2

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// Protected tells whether authentication is on, which the member that answered
// last tells everybody.
func (r *Registry) Protected(ctx context.Context) (bool, error) {
	member := r.members.last().member
	if member == "" {
		return false, errors.New("ask whether authentication is on: no member has answered before")
	}
	ctx, cancel := context.WithTimeout(ctx, r.limits.call)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, member+"/v2/auth/enable", nil)
	if err != nil {
		return false, err
	}
	reply, err := r.members.send(request)
	if err != nil {
		return false, fmt.Errorf("ask whether authentication is on: %w", err)
	}
	defer reply.Body.Close()
	var said struct{ Enabled *bool }
	err = json.NewDecoder(io.LimitReader(reply.Body, 1<<10)).Decode(&said)
	if err != nil || said.Enabled == nil {
		return false, fmt.Errorf("%s does not tell whether authentication is on", member)
	}
	return *said.Enabled, nil
}
