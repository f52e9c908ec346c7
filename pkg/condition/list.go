package condition

import (
	"cmp"
	"slices"
)

// List is a host's conditions at one moment, in the order in which they matter.
type List []Condition

// Add appends a condition that no Set keeps.
func (l *List) Add(c Condition) {
	c.Severity = c.Code.Severity()
	*l = append(*l, c)
}

// Find returns the first condition of a code.
func (l List) Find(code Code) (Condition, bool) {
	i := slices.IndexFunc(l, func(c Condition) bool { return c.Code == code })
	if i < 0 {
		return Condition{}, false
	}
	return l[i], true
}

// Has reports whether there is a condition of any of these codes.
func (l List) Has(codes ...Code) bool {
	return slices.ContainsFunc(l, func(c Condition) bool { return slices.Contains(codes, c.Code) })
}

// Unready is the condition that keeps the daemon from being ready: the first of
// those that do and that do not follow from another one of them. False: it is ready.
func (l List) Unready() (Condition, bool) {
	var all List
	for _, c := range l {
		if c.Code.Unready() {
			all = append(all, c)
		}
	}
	for _, c := range all {
		if k, _ := c.Code.kind(); !all.Has(k.after...) {
			return c, true
		}
	}
	return Condition{}, false
}

// Roots leaves out what follows from another condition that is there, and what
// only takes its time.
func (l List) Roots() (out List) {
	for _, c := range l {
		if k, _ := c.Code.kind(); k.severity != Pending && !l.Has(k.after...) {
			out = append(out, c)
		}
	}
	return out
}

// sort brings conditions into the order of their codes.
func (l List) sort() {
	place := make(map[Code]int, len(l))
	for _, c := range l {
		if _, known := place[c.Code]; !known {
			_, place[c.Code] = c.Code.kind()
		}
	}
	slices.SortFunc(l, func(a, b Condition) int {
		return cmp.Or(
			cmp.Compare(place[a.Code], place[b.Code]),
			cmp.Compare(a.Code, b.Code),
			cmp.Compare(a.More, b.More),
			cmp.Compare(a.Subject, b.Subject),
		)
	})
}

// Bound keeps at most so many conditions of each code, and makes one of the others
// that says how many they are: a store full of garbage cannot make the answer long.
func (l List) Bound(most int) List {
	out, seen, left := make(List, 0, len(l)), map[Code]int{}, 0
	for i, c := range l {
		if seen[c.Code]++; seen[c.Code] <= most {
			out = append(out, c)
			continue
		}
		left += max(c.More, 1)
		if i+1 == len(l) || l[i+1].Code != c.Code {
			rest := More(left)
			rest.Code, rest.Since, rest.Severity, left = c.Code, c.Since, c.Severity, 0
			out = append(out, rest)
		}
	}
	return out
}
