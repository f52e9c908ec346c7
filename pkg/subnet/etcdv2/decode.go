package etcdv2

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/client/v2"

	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/etcdconn"
)

// snapshot reads the reply to a list.
func (r *Registry) snapshot(reply *client.Response, err error) (subnet.Snapshot, error) {
	var said client.Error
	switch {
	case client.IsKeyNotFound(err) && errors.As(err, &said):
		reply = &client.Response{Index: said.Index, ClusterID: r.members.last().cluster, Node: &client.Node{Dir: true}}
	case err != nil:
		return subnet.Snapshot{}, err
	}
	switch {
	case reply.Node == nil:
		return subnet.Snapshot{}, fmt.Errorf("%s does not show the directory", r.members.last().member)
	case !reply.Node.Dir:
		return subnet.Snapshot{}, r.blocked(r.members.last().member, r.prefix, false)
	case reply.Index == 0:
		return subnet.Snapshot{}, fmt.Errorf("%s does not tell the index", r.members.last().member)
	}
	s := subnet.Snapshot{Index: reply.Index, Cluster: reply.ClusterID}
	return s, r.add(&s, reply.Node.Nodes)
}

// add takes up what lies in nodes and in the directory below them.
func (r *Registry) add(s *subnet.Snapshot, nodes client.Nodes) (err error) {
	for _, n := range nodes {
		if n == nil {
			continue
		}
		key, ok := etcdconn.Key(r.prefix, n.Key)
		switch {
		case n.Dir && n.Key == etcdconn.LeaseDir(r.prefix):
			err = r.add(s, n.Nodes)
		case !n.Dir && ok:
			e := entry(n)
			e.Key = key
			err = s.Add(e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// entry reads all of a node but its key.
func entry(n *client.Node) subnet.Entry {
	e := subnet.Entry{Value: n.Value, TTL: lifetime(n), Created: n.CreatedIndex, Modified: n.ModifiedIndex}
	if bytes := clipped(n.Value); bytes > 0 {
		e.Value, e.TooLong = "", bytes
	}
	return e.Bounded()
}

// change is what the store says of one. A key with a lifetime has the moment at which it ends, to the
// nanosecond, which the member that was asked to write it has set.
func change(n *client.Node, deleted bool) subnet.Change {
	var ends int64
	if n.Expiration != nil {
		ends = n.Expiration.UnixNano()
	}
	return subnet.Change{
		Index: n.ModifiedIndex, Unique: ends != 0 && !deleted,
		Digest: subnet.Digest(struct {
			key, value string
			created    uint64
			ends       int64
			deleted    bool
		}{n.Key, n.Value, n.CreatedIndex, ends, deleted}),
	}
}

// latest is the change that a list shows at its index; zero: none of ours was the store's last.
func latest(prefix string, reply *client.Response, index uint64) (c subnet.Change) {
	if reply == nil || reply.Node == nil {
		return c
	}
	for _, n := range reply.Node.Nodes {
		if n != nil && n.Dir && n.Key == etcdconn.LeaseDir(prefix) {
			for _, lease := range n.Nodes {
				if lease != nil && !lease.Dir && lease.ModifiedIndex == index {
					c = change(lease, false)
				}
			}
		}
	}
	return c
}

// lifetime is what is left. Where a key is due to end but no leader has ended
// it yet, that is nothing, which must not read as "for ever".
func lifetime(n *client.Node) time.Duration {
	const longest = 1 << 33 // seconds, so that no Duration overflows
	if n.Expiration == nil && n.TTL == 0 {
		return 0
	}
	return time.Duration(min(max(n.TTL, 1), longest)) * time.Second
}

// event reads the body of a watch's reply, for a watch after an index. There is
// no event in the result where the change is none of ours.
func (r *Registry) event(
	body []byte, after uint64,
) (index uint64, events []subnet.Event, said subnet.Change, err error) {
	var reply client.Response
	if err := json.Unmarshal(body, &reply); err != nil {
		return 0, nil, said, fmt.Errorf("a watch's reply is not etcd's JSON: %w", err)
	}
	n := reply.Node
	switch {
	case n == nil:
		return 0, nil, said, errors.New("a watch's reply shows no key")
	case n.ModifiedIndex <= after:
		return 0, nil, said, fmt.Errorf("a watch after index %d was answered with index %d", after, n.ModifiedIndex)
	case n.Dir || reply.PrevNode != nil && reply.PrevNode.Dir || len(n.Key) <= len(r.prefix):
		return 0, nil, said, fmt.Errorf("%q changed as a whole: %w", n.Key, subnet.ErrHistoryLost)
	}
	key, ok := etcdconn.Key(r.prefix, n.Key)
	if !ok {
		return n.ModifiedIndex, nil, said, nil
	}
	event := subnet.Event{Entry: entry(n)}
	event.Key = key
	switch reply.Action {
	case "delete", "compareAndDelete", "expire":
		event.Deleted, event.Value, event.TTL = true, "", 0
	}
	return n.ModifiedIndex, []subnet.Event{event}, change(n, event.Deleted), nil
}
