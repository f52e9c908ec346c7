package etcdv2

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// body is a reply's body. It names the member in its errors, ends before it
// would fill the memory, and does not wait for ever for a member that hangs in
// the middle of it.
type body struct {
	document *clip
	io.Closer
	member  string
	rest    int           // bytes
	silence time.Duration // how long it may say nothing; 0: for ever
	hung    func()        // it said nothing for that long
}

func (b *body) Read(p []byte) (int, error) {
	var hung atomic.Bool
	if b.silence > 0 {
		timer := time.AfterFunc(b.silence, func() {
			hung.Store(true)
			_ = b.Close() // ends the read
		})
		defer timer.Stop()
	}
	n, err := b.document.Read(p[:min(len(p), b.rest)])
	b.rest -= n
	switch {
	case err != nil && hung.Load():
		b.hung()
		return n, fmt.Errorf("%s: it has stopped in the middle of its reply", b.member)
	case err != nil && err != io.EOF:
		return n, fmt.Errorf("%s: %w", b.member, err)
	case b.rest == 0 && err == nil:
		return n, fmt.Errorf("%s: the reply is longer than is read, even without values that are too long: "+
			"delete keys below the prefix that are no leases", b.member)
	}
	return n, err
}
