package agent

import (
	"maps"
	"slices"
	"strings"

	"k8s.io/klog/v2"
)

// notes are the things that are not as they should be, by a name for each. A
// note is logged when it is new or reads otherwise than before.
type notes map[string]string

// linesAtOnce bounds what a store full of garbage can put into the log.
const linesAtOnce = 20

func (n *notes) say(name, text string) {
	if (*n)[name] == text {
		return
	}
	if *n == nil {
		*n = notes{}
	}
	(*n)[name] = text
	klog.Warning(text)
}

func (n *notes) forget(name string) { delete(*n, name) }

// sweep forgets those under a prefix that are no more.
func (n *notes) sweep(prefix string, still func(name string) bool) {
	maps.DeleteFunc(*n, func(name, _ string) bool { return strings.HasPrefix(name, prefix) && !still(name) })
}

// replace puts the given notes in place of all under a prefix.
func (n *notes) replace(prefix string, all map[string]string) {
	n.sweep(prefix, func(name string) bool { return all[name] != "" })
	said := 0
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if (*n)[name] == all[name] {
			continue
		}
		if said++; said <= linesAtOnce {
			n.say(name, all[name])
			continue
		}
		(*n)[name] = all[name]
	}
	if said > linesAtOnce {
		klog.Warningf("and %d more of this kind", said-linesAtOnce)
	}
}
