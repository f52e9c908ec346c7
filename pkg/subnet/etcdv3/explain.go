package etcdv3

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"flanneld/pkg/subnet/etcdconn"
)

// ErrNotServed says that the endpoints know nothing of the v3 API: each of them has
// answered, and not by gRPC.
var ErrNotServed = errors.New("etcd's v3 API is not served")

// fault is an error in words, with gRPC's code for those who decide by it.
type fault struct {
	code  codes.Code
	words string
	cause error
}

func (f *fault) Error() string { return f.words }
func (f *fault) Unwrap() error { return f.cause }

// transient tells whether another member, or the same one soon, may answer.
func transient(err error) bool {
	f, ok := errors.AsType[*fault](err)
	return ok && (f.code == codes.Unavailable || f.code == codes.DeadlineExceeded)
}

// explain puts an error of gRPC's on one line, with the endpoint and what to do.
// member is who was asked; "": that is unknown.
func (m *members) explain(member string, err error) error {
	said, code := status.Convert(err).Message(), status.Code(err)
	if etcd, ok := errors.AsType[rpctypes.EtcdError](err); ok {
		said, code = etcd.Error(), etcd.Code()
	}
	said, fromEtcd := strings.CutPrefix(etcdconn.Printable(said), "etcdserver: ")
	words, who := "", cmp.Or(member, "etcd")
	ports := etcdconn.AdviseOnPorts(slices.Sorted(maps.Values(m.urls)), m.last())
	switch {
	case errors.Is(err, context.Canceled) || code == codes.Canceled:
		return context.Canceled
	case fromEtcd && (code == codes.Unauthenticated || code == codes.PermissionDenied || authentication(said)):
		words = fmt.Sprintf("%s wants a user with other rights or another password: %s", who, said)
		err = errors.Join(err, fs.ErrPermission)
	case fromEtcd:
		words = fmt.Sprintf("%s answers: %s", who, said)
	case code == codes.Unavailable || code == codes.DeadlineExceeded || errors.Is(err, context.DeadlineExceeded):
		code = codes.Unavailable
		words = m.state(member, said) + ports
		if m.noneSpeaksGRPC() {
			err = errors.Join(err, ErrNotServed)
		}
	case code == codes.Unimplemented || noGRPC(said):
		words = fmt.Sprintf("%s does not serve etcd's v3 API (%s)%s", who, said, ports)
		err = errors.Join(err, ErrNotServed)
		if !m.allLackV3(member) {
			err = errors.Join(err, etcdconn.ErrPartly)
		}
	default:
		words = fmt.Sprintf("%s: %s%s", who, said, ports)
	}
	return &fault{code, words, err}
}

// noGRPC knows gRPC's words for an answer by HTTP that is none of gRPC's: of a server
// that has no such thing. One that refuses (401, 403, 429) may have it.
func noGRPC(said string) bool {
	_, code, found := strings.Cut(said, "unexpected HTTP status code received from server: ")
	return found && slices.ContainsFunc([]string{"400", "404", "405", "415", "426"}, func(lacks string) bool {
		return strings.HasPrefix(code, lacks)
	})
}

// allLackV3 notes that a member does not serve the API, and tells whether none does.
func (m *members) allLackV3(member string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lack == nil {
		m.lack = map[string]bool{}
	}
	m.lack[member] = true
	for _, url := range m.urls {
		if !m.lack[url] && !errors.Is(m.faults[url], etcdconn.ErrProtocol) {
			return false
		}
	}
	return true
}

// authentication knows etcd's errors about users by their words, as the code is
// that of any wrong request.
func authentication(said string) bool {
	for _, words := range []string{"authentication failed", "user name", "permission denied", "auth token"} {
		if strings.Contains(said, words) {
			return true
		}
	}
	return false
}

// state says why there is no answer: what is wrong with the member that was
// asked, and with those that cannot be reached.
func (m *members) state(member, said string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []string
	for _, address := range m.order {
		url := m.urls[address]
		switch err := m.faults[url]; {
		case err != nil:
			all = append(all, fmt.Sprintf("%s: %v", url, err))
		case url == member:
			all = append(all, fmt.Sprintf("no complete answer in time from %s: %s", url, said))
		}
	}
	if len(all) == 0 {
		everybody := strings.Join(slices.Collect(maps.Values(m.urls)), ", ")
		return fmt.Sprintf("no complete answer in time from %s: %s", everybody, said)
	}
	return strings.Join(all, "; ")
}

// noneSpeaksGRPC tells whether every endpoint has answered, and not by gRPC.
func (m *members) noneSpeaksGRPC() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, url := range m.urls {
		if !errors.Is(m.faults[url], etcdconn.ErrProtocol) {
			return false
		}
	}
	return true
}
