package etcdv3

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/etcdconn"
)

// Config says where the keys are and how to get at them. The user's password
// is exchanged for a token; a client certificate's common name is a user too.
type Config = etcdconn.Config

// Registry is a subnet.Registry in etcd.
type Registry struct {
	config  Config // but for the password
	limits  limits
	members *members
	watches etcdconn.Watches

	opening chan struct{} // one slot: who holds it may set client and password

	mu       sync.Mutex
	client   *client
	password string
	spelling
	cluster uint64 // of the last list
	term    uint64 // raft's, the highest since the last list
	trail   subnet.Trail
	proven  time.Time
	grants  grants
}

var _ subnet.Registry = (*Registry)(nil)

// window is how many bytes of a reply are under way, at the most.
const window = 1 << 20

const (
	trailLeases  = 4    // writes with a lease that a watch that goes on is told once more; DESIGN.md says why so many
	trailLongest = 1000 // changes in all, which a member tells at once
)

// limits bound waiting and memory.
type limits struct {
	connect time.Duration // a host that is switched off does not hold up its neighbours for longer
	attempt time.Duration // for one of several members to answer; one without a leader says so after seven seconds
	call    time.Duration // for one call, over all members
	list    time.Duration // for all pages of a list, each of which is a call: a slow etcd may send many
	silence time.Duration // a connection whose other end is gone is given up after about twice that
	ping    time.Duration // a member that hangs, though its kernel does not, is asked this often
	pong    time.Duration // and must answer within
	pulse   time.Duration // a watch is asked this often whether it lives
	deaf    time.Duration // and is given up when it has said nothing for so long
	retry   time.Duration // at most, until a member that could not be reached is tried again
	reply   int           // bytes
}

func productLimits() limits {
	return limits{
		connect: 2 * time.Second, attempt: 8 * time.Second, call: 20 * time.Second, list: time.Minute,
		silence: 3 * time.Second,  // so that a host that is gone is told from a member that hangs
		ping:    10 * time.Second, // gRPC pings no more often
		pong:    3 * time.Second, pulse: 3500 * time.Millisecond, deaf: 7500 * time.Millisecond,
		retry: 400 * time.Millisecond,
		reply: 64 << 20, // 100,000 leases take a third of that
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
	return &Registry{
		config: c, password: c.Password, spelling: spell(c), limits: l, members: newMembers(c, l), opening: make(chan struct{}, 1),
		trail: subnet.Trail{Keep: trailLeases, Longest: trailLongest},
	}, nil
}

// Close gives up all connections.
func (r *Registry) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.client != nil {
		_ = r.client.Close() // which says only what ended it
		r.client = nil
	}
}

// client is one of client/v3's, with the requests that are under way over it. Who adds
// one holds the Registry's lock.
type client struct {
	*clientv3.Client
	calls sync.WaitGroup
}

// Member is the URL of the member that gave the last answer; "" before the first.
func (r *Registry) Member() string { return r.members.last() }

// connection is what the requests go over, until done is called. With a user and a
// password the first one asks etcd for a token, and fails where it is not given.
func (r *Registry) connection(ctx context.Context) (conn grpc.ClientConnInterface, done func(), err error) {
	select {
	case r.opening <- struct{}{}:
		defer func() { <-r.opening }()
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.client == nil {
		password := r.password
		r.mu.Unlock()
		opened, err := r.newClient(ctx, password)
		r.mu.Lock()
		if err != nil {
			return nil, nil, err
		}
		r.client = opened
	}
	c := r.client
	c.calls.Add(1)
	return c.ActiveConnection(), c.calls.Done, nil
}

// newClient asks for a token where there are a user and a password.
func (r *Registry) newClient(ctx context.Context, password string) (*client, error) {
	life, end := context.WithCancel(context.Background())
	stop := context.AfterFunc(ctx, end)
	c, err := clientv3.New(r.clientConfig(life, password))
	if !stop() && err == nil { // the client's life ends just now
		err = ctx.Err()
		_ = c.Close()
	}
	if err != nil {
		end()
		r.members.postpone(r.members.first()) // it may have refused a token
		return nil, err
	}
	return &client{Client: c}, nil
}

func (r *Registry) clientConfig(life context.Context, password string) clientv3.Config {
	return clientv3.Config{
		Context:              life,
		Endpoints:            r.members.addresses(),
		DialTimeout:          r.limits.attempt, // bounds the request for a token
		DialKeepAliveTime:    r.limits.ping,
		DialKeepAliveTimeout: r.limits.pong,
		Username:             r.config.Username,
		Password:             password,
		MaxUnaryRetries:      2, // one of them with a new token
		Logger:               zap.NewNop(),
		DialOptions: []grpc.DialOption{
			grpc.WithContextDialer(r.members.dial),
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff: backoff.Config{
					BaseDelay: r.limits.retry / 4, Multiplier: 1.6, Jitter: 0.2, MaxDelay: r.limits.retry,
				},
				MinConnectTimeout: r.limits.attempt,
			}),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(r.limits.reply)),
			grpc.WithDisableServiceConfig(), // client/v3's, which connects to all members
			grpc.WithReadBufferSize(4 << 10), grpc.WithWriteBufferSize(4 << 10),
			// So that gRPC does not measure the path by pings with each reply.
			grpc.WithStaticStreamWindowSize(window), grpc.WithStaticConnWindowSize(window),
		},
	}
}

// request asks one member over conn, and notes in at which one.
type request func(ctx context.Context, conn grpc.ClientConnInterface, at *respondent) error

// try asks members until one answers, or the call's time is over. A request
// may be carried out though its reply is lost, and then once more.
func (r *Registry) try(ctx context.Context, ask request) error {
	ctx, cancel := context.WithTimeoutCause(ctx, r.limits.call, subnet.ErrSilent)
	defer cancel()
	for tries := len(r.config.Endpoints); ; tries-- {
		err := r.once(ctx, ask)
		if err == nil || tries == 0 || ctx.Err() != nil || !transient(err) {
			return err
		}
	}
}

// once asks one member. Where there is no other to turn to, it gets the whole of the call's time: what
// a busy etcd has worked on is not thrown away and asked for anew. One that hangs is found out by pings.
func (r *Registry) once(ctx context.Context, ask request) error {
	limit := r.limits.call
	if r.members.another("") {
		limit = r.limits.attempt
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, subnet.ErrSilent)
	defer cancel()
	conn, done, err := r.connection(ctx)
	if err != nil {
		return r.members.explain("", err)
	}
	defer done()
	var at respondent
	err = ask(clientv3.WithRequireLeader(ctx), conn, &at)
	if err == nil {
		r.members.answered(at.member())
		return nil
	}
	if end, _ := ctx.Deadline(); status.Code(err) == codes.DeadlineExceeded && time.Until(end) < r.limits.attempt/8 {
		<-ctx.Done() // the member knows the deadline too, and may be the first to say that it is over
	}
	silent := errors.Is(context.Cause(ctx), subnet.ErrSilent) // and not for lack of the caller's time
	if silent && at.member() != "" {
		r.members.overran(at.member())
	}
	err = r.members.explain(at.member(), err)
	if f, ok := errors.AsType[*fault](err); ok && silent {
		f.cause = errors.Join(f.cause, subnet.ErrSilent)
	}
	switch {
	case silent && r.members.another(at.member()):
		r.leave(at.member(), subnet.ErrSilent)
	case !silent && ctx.Err() == nil && elsewhere(err):
		r.leave(at.member(), nil)
	}
	return err
}

// elsewhere tells whether another member may do what this one has failed to do.
func elsewhere(err error) bool { return transient(err) || errors.Is(err, ErrNotServed) }

// leave has all that follows asked of another member, if there is one. Why is nil where
// the member has said what is wrong with it: then it is left only for another one.
func (r *Registry) leave(member string, why error) {
	if member == "" || why == nil && len(r.members.order) == 1 {
		return
	}
	r.members.postpone(member)
	r.mu.Lock()
	client := r.client
	r.mu.Unlock()
	if client != nil {
		client.SetEndpoints(r.members.addresses()...)
	}
	r.members.hangUp(member, why)
}

// below is the range of all keys below a directory.
func below(dir string) (first, end []byte) {
	return []byte(dir + "/"), []byte(dir + string(rune('/'+1)))
}
