// Package nearest guesses what somebody meant who wrote a name that nobody knows.
package nearest

import (
	"iter"

	"github.com/agext/levenshtein"
)

// Of is the known name that is most like the unknown one; "" where none is like it.
func Of(unknown string, known iter.Seq[string]) (nearest string) {
	least := max(len(unknown), 4)
	for name := range known {
		d := levenshtein.Distance(unknown, name, nil)
		if d < least && 2*d < max(len(unknown), len(name)) {
			nearest, least = name, d
		}
	}
	return nearest
}
