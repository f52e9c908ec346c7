package etcdv2

import (
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/client/v2"

	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/etcdconn"
)

// Config says where the keys are and how to get at them. The user's password
// goes along with each request (basic authentication).
type Config = etcdconn.Config

// Registry is a subnet.Registry in etcd.
type Registry struct {
	config    Config // but for the password
	prefix    string
	endpoints []string
	username  string
	limits    limits
	keys      client.KeysAPI
	members   *transport
	watches   etcdconn.Watches

	mu      sync.Mutex
	cluster string // of the last list
	term    uint64 // raft's, the highest since the last list
	index   uint64 // the store's, the highest that was seen since the last list
	trail   subnet.Trail
	proven  time.Time
}

// trailLongest is how many changes a watch that goes on has told once more: each takes a
// request.
const trailLongest = 20

var _ subnet.Registry = (*Registry)(nil)

// limits bound waiting and memory.
type limits struct {
	connect time.Duration // a host that is switched off does not hold up its neighbours for longer
	header  time.Duration // for a member to answer; what it asked of a leader that died it waits for in vain
	call    time.Duration // for one call, over all endpoints
	watch   time.Duration // for one wait, less up to a tenth so that hosts do not move together
	mute    time.Duration // for one wait whose reply does not begin: a proxy holds it back, or nobody is there
	brief   time.Duration // a wait that the server ends sooner than that has failed
	probe   time.Duration // a waiting member is asked this often whether it lives, or up to a fifth more often
	silence time.Duration // a connection whose other end is gone is given up after about twice that
	reply   int           // bytes
}

func productLimits() limits {
	return limits{
		connect: 2 * time.Second, header: 3 * time.Second, call: 20 * time.Second,
		watch: 5 * time.Minute, mute: 15 * time.Second, brief: 10 * time.Second, probe: 5 * time.Second,
		silence: 6 * time.Second,
		reply:   64 << 20, // 100,000 leases take a third of that
	}
}

// New prepares a Registry without asking etcd anything. TLS files that cannot
// be used are an error at once.
func New(c Config) (*Registry, error) {
	return newRegistry(c, productLimits())
}

func newRegistry(c Config, l limits) (*Registry, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	r := &Registry{
		config:    c,
		prefix:    c.Dir(),
		endpoints: c.Endpoints,
		username:  c.Username,
		limits:    l,
		trail:     subnet.Trail{Keep: 1, Longest: trailLongest},
		members:   newTransport(c, l),
	}
	var err error
	r.keys, err = r.client(l.header)
	return r, err
}

// client is client/v2, which gives each member that long to begin its reply. The user and the
// password are the transport's.
func (r *Registry) client(header time.Duration) (client.KeysAPI, error) {
	etcd, err := client.New(client.Config{
		Endpoints:               r.endpoints,
		Transport:               r.members,
		HeaderTimeoutPerRequest: header,
	})
	if err != nil {
		return nil, fmt.Errorf("use the etcd endpoints: %w", err)
	}
	return client.NewKeysAPI(etcd), nil
}

// Close gives up idle connections.
func (r *Registry) Close() { closeIdle(r.members.carrier()) }

// Member is the URL of the member that gave the last answer; "" before the first.
func (r *Registry) Member() string { return r.members.last().member }

// Dir is the directory of all keys.
func (r *Registry) Dir() string { return r.prefix }
