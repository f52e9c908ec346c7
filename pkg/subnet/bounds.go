package subnet

import (
	"fmt"
	"strings"
)

// What is in the store is bounded as it is read: whoever may write there could
// otherwise fill the memory of every host, and its log. Beyond a bound an entry is
// told of, and the rest goes on.

// LongestValue is how many bytes the value of a key may have. A config has a few
// hundred, and a lease about 150.
const LongestValue = 16 << 10

const (
	strangeKept = 1000     // keys that name no subnet, of which there is more than a number
	strangeLong = 256      // bytes of such a key
	listLongest = 64 << 20 // bytes of a list, as kept: 100,000 leases take a third of that
	entryCost   = 128      // bytes of an entry beside its texts
)

// Bounded is the entry without a value that is too long.
func (e Entry) Bounded() Entry {
	if n := len(e.Value); n > LongestValue {
		e.Value, e.TooLong = "", n
	}
	return e
}

// Text is the value; a *FieldError where it is too long, and not known.
func (e Entry) Text() (string, error) {
	if e.TooLong > 0 {
		return "", tooLong(e.TooLong)
	}
	return e.Value, nil
}

func tooLong(bytes int) error {
	return &FieldError{Reason: fmt.Sprintf("is %d bytes long, more than the %d that are read", bytes, LongestValue)}
}

// Add takes an entry up into a list, within bounds: of keys that mean nothing to us
// only the first are kept, and others counted. The error says that there is no room
// for those that do.
func (s *Snapshot) Add(e Entry) error {
	e = e.Bounded()
	if strange(e.Key) {
		if s.strange++; s.strange > strangeKept || len(e.Key) > strangeLong {
			s.Omitted++
			return nil
		}
	}
	if s.size += len(e.Key) + len(e.Value) + entryCost; s.size > listLongest {
		return fmt.Errorf("there is more than %d MiB of leases below the prefix, %d keys so far: delete what is none",
			listLongest>>20, len(s.Entries))
	}
	s.Entries = append(s.Entries, e)
	return nil
}

// strange tells of a key whether it is neither a lease's nor one of the few others.
func strange(key string) bool {
	if key == ConfigKey || key == APIKey {
		return false
	}
	_, err := ParseKey(key)
	return err != nil
}

// inLeases tells of a key whether it lies where only leases should.
func inLeases(key string) bool { return strings.HasPrefix(key, LeaseDir+"/") }
