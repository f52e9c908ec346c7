package health

import (
	"container/list"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

// Connections that are open at a time, at most: an eighth of the file descriptors
// that the process may have, as it needs those for etcd and iptables.
const (
	fewestConnections = 4
	mostConnections   = 64
	shareOfFiles      = 8
)

// connectionsFor is how many connections there may be under a limit on open files.
func connectionsFor(files uint64) int {
	return int(min(max(files/shareOfFiles, fewestConnections), mostConnections))
}

func openFiles() uint64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return limit.Cur
}

// quota is a listener that keeps a number of connections open at most. One more is
// taken in place of the oldest without a request, or else of the oldest: a new one
// is never kept waiting, however many do nothing.
type quota struct {
	net.Listener
	most int

	mu   sync.Mutex
	open list.List // of *visitor, the oldest first
	said time.Time // that some were closed
}

// visitor is a connection under a quota.
type visitor struct {
	net.Conn
	of     *quota
	place  *list.Element
	active bool // it has begun a request
}

// Accept implements net.Listener.
func (q *quota) Accept() (net.Conn, error) {
	conn, err := q.Listener.Accept()
	if err != nil {
		return nil, err
	}
	v := &visitor{Conn: conn, of: q}
	q.mu.Lock()
	var gone *visitor
	if q.open.Len() >= q.most {
		gone = q.worst()
	}
	v.place = q.open.PushBack(v)
	say := gone != nil && time.Since(q.said) >= time.Minute
	if say {
		q.said = time.Now()
	}
	q.mu.Unlock()
	if say {
		klog.InfoS("More connections to the health port than are kept open: closing the oldest", "most", q.most,
			"newest", conn.RemoteAddr().String())
	}
	if gone != nil {
		_ = gone.Close()
	}
	return v, nil
}

// worst is the one to close.
func (q *quota) worst() *visitor {
	for e := q.open.Front(); e != nil; e = e.Next() {
		if v := e.Value.(*visitor); !v.active {
			return v
		}
	}
	return q.open.Front().Value.(*visitor)
}

// note is http.Server's ConnState.
func (q *quota) note(conn net.Conn, state http.ConnState) {
	if v, ours := conn.(*visitor); ours {
		q.mu.Lock()
		v.active = state == http.StateActive
		q.mu.Unlock()
	}
}

// Close implements net.Conn.
func (v *visitor) Close() error {
	v.of.mu.Lock()
	v.of.open.Remove(v.place) // nothing, the second time
	v.of.mu.Unlock()
	return v.Conn.Close()
}
