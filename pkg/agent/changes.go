package agent

import (
	"bytes"
	"fmt"
	"net/netip"

	"flanneld/pkg/backend"
	"flanneld/pkg/kernel"
	"flanneld/pkg/printable"
)

// pathNews are the peers of a pass that are reached otherwise than before it.
type pathNews struct{ came, turned, left []netip.Prefix }

// peersToName bounds how many peers a change of many names.
const peersToName = 3

// notePeers has each kind of news in a line, however many peers there are.
func (a *Agent) notePeers(n pathNews) {
	for _, kind := range []struct {
		peers     []netip.Prefix
		one, many string
	}{
		{n.came, "peer reached", "peers reached"},
		{n.turned, "peer reached otherwise", "peers reached otherwise"},
		{n.left, "peer gone", "peers gone"},
	} {
		if len(kind.peers) == 0 {
			continue
		}
		names := make([]string, len(kind.peers))
		for i, p := range kind.peers[:min(len(kind.peers), peersToName)] {
			names[i] = a.paths.words(p)
		}
		text := kind.one
		if len(names) > 1 {
			text = fmt.Sprintf("%d %s", len(names), kind.many)
		}
		a.Note(text + ": " + printable.Some(names, peersToName, ", ", " and"))
	}
}

// words say how a peer is reached; of one that is gone, only which it was.
func (t pathTimes) words(to netip.Prefix) string {
	switch p := t[to]; p.mode {
	case backend.Tunnel:
		return fmt.Sprintf("%v by the tunnel %s", to, p.dev)
	case backend.Direct:
		return fmt.Sprintf("%v directly by %s", to, p.dev)
	}
	return to.String()
}

// noteSetup notes that the config key says something else than what the former setup was
// made from.
func (a *Agent) noteSetup(former, next *setup) {
	if former != nil && former.config.Text() == next.config.Text() &&
		bytes.Equal(former.config.Backend, next.config.Backend) {
		return
	}
	for _, h := range next.halves {
		a.Note(fmt.Sprintf("the config key asks for subnets of /%d in %v, backend %s",
			h.config.SubnetLen, h.config.Network, next.kind()))
	}
}

// noteRepairs notes what another program had undone.
func (a *Agent) noteRepairs(ops []kernel.Op) {
	var repairs []string
	for _, o := range ops {
		if o.Repair {
			repairs = append(repairs, o.String())
		}
	}
	if len(repairs) > 0 {
		a.Note("put right: " + printable.Some(repairs, 1, "", " and"))
	}
}

// noteReady notes that this host has become ready, or is so no more.
func (a *Agent) noteReady() {
	c, not := a.Conditions.List().Unready()
	if a.wasReady == !not {
		return
	}
	if a.wasReady = !not; not {
		a.Note("not ready: " + c.Text())
	} else {
		a.Note("ready")
	}
}
