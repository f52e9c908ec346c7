package agent

import (
	"maps"
	"net/netip"

	"flanneld/pkg/backend"
	"flanneld/pkg/kernel"
)

// onLinkCache keeps the kernel's answers to "is this peer on the link?" until
// its routing changes, and beyond that for as long as it gives no new ones: what
// is not known is not acted on.
type onLinkCache struct {
	routing uint64 // as Changes.Routing counts
	link    string
	index   int
	answers map[netip.Addr]onLinkAnswer
	err     error // the last that came instead of an answer, since startPass
}

type onLinkAnswer struct {
	yes     bool
	routing uint64 // under which it was given
}

// startPass is called at the beginning of a pass.
func (c *onLinkCache) startPass(routing uint64, l kernel.Link) {
	switch {
	case c.answers == nil || c.link != l.Name || c.index != l.Index:
		*c = onLinkCache{routing: routing, link: l.Name, index: l.Index, answers: map[netip.Addr]onLinkAnswer{}}
	case c.routing != routing:
		if c.err == nil { // older ones are of peers that are gone
			maps.DeleteFunc(c.answers, func(_ netip.Addr, a onLinkAnswer) bool { return a.routing != c.routing })
		}
		c.routing = routing
	}
	c.err = nil
}

func (c *onLinkCache) ask(ip netip.Addr, k Kernel) backend.Answer {
	last, known := c.answers[ip]
	if !known || last.routing != c.routing {
		yes, err := k.Direct(ip, c.link)
		if err != nil {
			c.err = err
		} else {
			last, known = onLinkAnswer{yes, c.routing}, true
			c.answers[ip] = last
		}
	}
	switch {
	case !known:
		return backend.Unknown
	case last.yes:
		return backend.Yes
	}
	return backend.No
}
