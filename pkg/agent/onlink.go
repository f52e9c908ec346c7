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
	open    []netip.Addr // asked for, and not known
	err     error        // the last that came instead of an answer, since startPass
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

// desired is what f, which is pure, makes of the kernel's answers. What it asks in vain
// the first time is asked of the kernel at once: of each peer on its own takes longer than
// to write its route.
func (c *onLinkCache) desired(k Kernel, f func(onLink func(netip.Addr) backend.Answer) desired) desired {
	c.open = nil
	want := f(c.answer)
	if len(c.open) > 0 {
		c.ask(k)
		want = f(c.answer)
	}
	return want
}

// ask has the kernel answer what is open.
func (c *onLinkCache) ask(k Kernel) {
	direct, errs := k.Direct(c.open, c.link)
	for i, ip := range c.open {
		if errs[i] != nil {
			c.err = errs[i]
		} else {
			c.answers[ip] = onLinkAnswer{direct[i], c.routing}
		}
	}
}

// answer is the last known. It notes what is to be asked anew.
func (c *onLinkCache) answer(ip netip.Addr) backend.Answer {
	last, known := c.answers[ip]
	if !known || last.routing != c.routing {
		c.open = append(c.open, ip)
	}
	switch {
	case !known:
		return backend.Unknown
	case last.yes:
		return backend.Yes
	}
	return backend.No
}
