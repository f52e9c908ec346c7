package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/client/v2"
)

// storeV3 uses the v3 API through etcd's JSON gateway, so that the lab shares no code
// with the client under test.
type storeV3 struct{ e *Etcd }

// kv is a key, with numbers as the gateway writes them.
type kv struct {
	Key, Value []byte
	Lease      string
	Create     string `json:"create_revision"`
	Mod        string `json:"mod_revision"`
}

func (s storeV3) set(ctx context.Context, key, value string, ttl time.Duration) error {
	put := map[string]any{"key": []byte(key), "value": []byte(value)}
	if ttl > 0 {
		var granted struct{ ID string }
		if err := s.ask(ctx, "lease/grant", map[string]any{"TTL": int64(ttl / time.Second)}, &granted); err != nil {
			return err
		}
		put["lease"] = granted.ID
	}
	return s.ask(ctx, "kv/put", put, nil)
}

func (s storeV3) delete(ctx context.Context, key string) error {
	for _, what := range []map[string]any{{"key": []byte(key)}, below(key)} {
		if err := s.ask(ctx, "kv/deleterange", what, nil); err != nil {
			return err
		}
	}
	return nil
}

// below is the range of the keys in a directory.
func below(key string) map[string]any {
	dir := strings.TrimSuffix(key, "/")
	return map[string]any{"key": []byte(dir + "/"), "range_end": []byte(dir + "0")}
}

// get returns a directory for a key that is a prefix of others.
func (s storeV3) get(ctx context.Context, key string) (*client.Node, error) {
	var own, children struct{ KVs []kv }
	if err := s.ask(ctx, "kv/range", map[string]any{"key": []byte(key)}, &own); err != nil {
		return nil, err
	}
	if len(own.KVs) > 0 {
		return s.node(ctx, own.KVs[0])
	}
	if err := s.ask(ctx, "kv/range", below(key), &children); err != nil || len(children.KVs) == 0 {
		return nil, err
	}
	dir := &client.Node{Key: key, Dir: true}
	for _, c := range children.KVs {
		n, err := s.node(ctx, c)
		if err != nil {
			return nil, err
		}
		dir.Nodes = append(dir.Nodes, n)
	}
	return dir, nil
}

func (s storeV3) node(ctx context.Context, k kv) (*client.Node, error) {
	n := &client.Node{
		Key: string(k.Key), Value: string(k.Value), CreatedIndex: number(k.Create), ModifiedIndex: number(k.Mod),
	}
	if k.Lease == "" {
		return n, nil
	}
	var left struct{ TTL string }
	err := s.ask(ctx, "lease/timetolive", map[string]any{"ID": k.Lease}, &left)
	n.TTL = int64(number(left.TTL))
	return n, err
}

func number(s string) uint64 {
	n, _ := strconv.ParseUint(s, 10, 64)
	return n
}

// ask sends a request to the members in turn, until one answers.
func (s storeV3) ask(ctx context.Context, what string, request any, reply any) (err error) {
	for _, m := range s.e.Members {
		if err = s.askMember(ctx, m, what, request, reply); err == nil {
			return nil
		}
	}
	return err
}

func (s storeV3) askMember(ctx context.Context, m *Member, what string, request any, reply any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, m.HTTP+"/v3/"+what, bytes.NewReader(body))
	if err != nil {
		return err
	}
	answer, err := s.e.transport.RoundTrip(post)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	switch {
	case err != nil:
		return err
	case answer.StatusCode != http.StatusOK:
		return fmt.Errorf("%s: %s", answer.Status, content)
	case reply == nil:
		return nil
	}
	return json.Unmarshal(content, reply)
}

// Compact deletes the v3 store's history before a revision.
func (e *Etcd) Compact(revision uint64) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
	defer cancel()
	e.must("compact", storeV3{e}.ask(ctx, "kv/compaction", map[string]any{"revision": revision, "physical": true}, nil))
}

// Replace deletes a key and sets another one in one transaction of the v3 store.
func (e *Etcd) Replace(key, by, value string) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
	defer cancel()
	steps := []any{
		map[string]any{"requestDeleteRange": map[string]any{"key": []byte(key)}},
		map[string]any{"requestPut": map[string]any{"key": []byte(by), "value": []byte(value)}},
	}
	e.must("replace "+key, storeV3{e}.ask(ctx, "kv/txn", map[string]any{"success": steps}, nil))
}

// Grants are the IDs of the v3 store's leases.
func (e *Etcd) Grants() (ids []string) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
	defer cancel()
	var reply struct{ Leases []struct{ ID string } }
	e.must("list the leases", storeV3{e}.ask(ctx, "lease/leases", map[string]any{}, &reply))
	for _, l := range reply.Leases {
		ids = append(ids, l.ID)
	}
	return ids
}
