package agent

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"

	"flanneld/pkg/subnet"
)

// kind is the type of a setup's backend.
func (u *setup) kind() string { return u.config.BackendType }

// attrs is what our lease is to say: what the next setup needs, and beside that, where the tunnels of
// the others at work end.
func (a *Agent) attrs(now time.Time) subnet.Attrs {
	all := a.next.attrs()
	for _, u := range a.besideNext(now) {
		for i, h := range a.next.halves {
			beside, used := u.of(h.family)
			if !used {
				continue
			}
			data := &all.BackendData
			if i > 0 {
				data = &all.IPv6.BackendData
			}
			*data = merged(*data, beside.backend.Endpoint())
		}
	}
	return all
}

// besideNext are the setups that our lease names beside the next one, of each type one, in an order that
// stays the same when one takes another's place.
func (a *Agent) besideNext(now time.Time) (all []*setup) {
	add := func(u *setup) {
		named := func(o *setup) bool { return o.kind() == u.kind() }
		if u.kind() != a.next.kind() && !slices.ContainsFunc(all, named) {
			all = append(all, u)
		}
	}
	if a.current != nil {
		add(a.current)
		for _, l := range a.left {
			if a.spoken(l, now) {
				add(l.setup)
			}
		}
	}
	slices.SortFunc(all, func(x, y *setup) int { return cmp.Compare(x.kind(), y.kind()) })
	return all
}

// merged is a JSON object with the fields of another behind its own, which stay as they are; empty: there
// is none.
func merged(object, more string) string {
	switch {
	case len(more) <= len("{}"):
		return object
	case len(object) <= len("{}"):
		return more
	}
	return object[:len(object)-1] + "," + more[1:]
}

// saidBy tells whether our lease says where a setup's tunnels end.
func (u *setup) saidBy(own subnet.Lease) bool {
	for _, h := range u.halves {
		says := h.backend.Endpoint()
		if a := h.backend.Attrs(); a.Type() == own.Type() {
			says = a.BackendData
		}
		if mine, has := own.For(h.family); has && !holds(mine.BackendData, says) {
			return false
		}
	}
	return own.Subnet.IsValid()
}

// holds tells whether a JSON object has the fields of another.
func holds(object, fields string) bool {
	if fields == "" || object == fields {
		return true
	}
	var has, wants map[string]json.RawMessage
	if json.Unmarshal([]byte(object), &has) != nil || json.Unmarshal([]byte(fields), &wants) != nil {
		return false
	}
	for name, value := range wants {
		if string(has[name]) != string(value) {
			return false
		}
	}
	return true
}

// toldTimes are since when our lease says where the tunnels of setups end, by these ends: a setup that is
// made again is none that peers have to hear of.
type toldTimes map[string]time.Time

func (u *setup) ends() string {
	all := u.kind()
	for _, h := range u.halves {
		all += " " + h.backend.Endpoint()
	}
	return all
}

// trackTold keeps a.told. Where one setup is at work alone, nobody asks.
func (a *Agent) trackTold(own subnet.Lease, now time.Time) {
	if a.next == a.current && len(a.left) == 0 {
		a.told = nil
		return
	}
	told := toldTimes{}
	note := func(u *setup) {
		if u == nil || !u.saidBy(own) {
			return
		}
		ends := u.ends()
		told[ends] = now
		if since, was := a.told[ends]; was {
			told[ends] = since
		}
	}
	note(a.current)
	note(a.next)
	for _, l := range a.left {
		note(l.setup)
	}
	a.told = told
}

// untilKnown is how long it takes until all peers have heard where a setup's tunnels end: not before may
// this host send by one that lets in nobody it does not know.
func (a *Agent) untilKnown(u *setup, now time.Time) time.Duration {
	since, told := a.told[u.ends()]
	if !told {
		return propagation
	}
	return propagation - now.Sub(since)
}
